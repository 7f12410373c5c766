# `make` prints what there is. Works with GNU make 3.81 and newer.

# Tools run as `go run package@version`: this is the only place of their versions, apart from
# oapi-codegen's, which stands in api/api.go.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SQLC          := github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1

# What one may set: make test PKG=./internal/ledger/... ARGS='-run Hold -v'; make up ARGS=--fresh
PKG  ?= ./...
ARGS ?=

.PHONY: help up test test-race cover bench drill load lint fmt generate check-generated check-rules rename check-rename \
	check-containers migrate seed ci clean

help: ## Print this list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: bin/ctl ## Run everything on a private Postgres, with demo data. ARGS=--fresh starts over.
	@scripts/need-postgres.sh
	@exec bin/ctl up $(ARGS)

test: bin/withpg ## Run all tests on a private Postgres. PKG and ARGS narrow it.
	@scripts/need-postgres.sh
	bin/withpg -- go test $(ARGS) $(PKG)

test-race: bin/withpg ## Run all tests with the race detector (needs a C compiler).
	@scripts/need-postgres.sh
	bin/withpg -- go test -race $(ARGS) $(PKG)

cover: bin/withpg ## Run all tests and print how much of each package they run through.
	@scripts/need-postgres.sh
	bin/withpg -- go test -coverpkg=./... -coverprofile=cover.out $(ARGS) $(PKG)
	go tool cover -func=cover.out | tail -n 1

bench: ## Measure accepting and settling against a naive path in the same run.
	@scripts/need-postgres.sh
	go run ./loadtest/cmd/bench $(ARGS)

drill: ## Play thirteen failures and say which claims hold. ARGS='run --broken', ARGS=list, docs/drills.md.
	@scripts/need-postgres.sh
	@go run ./loadtest/cmd/drill $(or $(ARGS),run)

load: ## Load a system and check its promises; without ARGS a private one, for a minute. ARGS=list, docs/load.md.
	@scripts/need-postgres.sh
	@go run ./loadtest/cmd/load $(or $(ARGS),run --private)

lint: bin/withpg ## Check the house rules: golangci-lint, and sqlc against the migrated schema.
	@scripts/need-postgres.sh
	go run $(GOLANGCI_LINT) run ./...
	cd test/containers && go run $(GOLANGCI_LINT) run ./...
	bin/withpg -tcp -- sh -c 'go run ./cmd/ctl migrate && \
		SQLC_DATABASE_URL="$$DATABASE_URL" CGO_ENABLED=0 go run $(SQLC) vet'

fmt: ## Format all Go code.
	go run $(GOLANGCI_LINT) fmt ./...
	cd test/containers && go run $(GOLANGCI_LINT) fmt ./...

generate: ## Generate queries, API types, the client and the generated pages of docs/.
	CGO_ENABLED=0 go run $(SQLC) generate
	go generate ./api
	go run ./internal/problem/cmd/errordoc > docs/errors.md
	go test -run '^TestGenerated' -count=1 . -update

check-generated: ## Show that nothing generated is out of date.
	scripts/check-generated.sh

check-rules: ## Check Prometheus's rules, and that each alert fires when it should and not else.
	@scripts/check-rules.sh

rename: ## Give the module another path: make rename MODULE=example.org/you/name
	@scripts/rename.sh '$(MODULE)'

check-rename: ## Show, in a copy, that a renamed module builds.
	scripts/check-rename.sh

check-containers: ## Build the images, and break containers of them. Skipped where no engine is.
	@scripts/check-containers.sh

migrate: ## Bring the database at DATABASE_URL to the newest schema.
	go run ./cmd/ctl migrate

seed: ## Put demo data into the database at DATABASE_URL.
	go run ./cmd/ctl seed

ci: ## Run what continuous integration runs.
	.ci/run

clean: ## Remove what was built.
	rm -rf bin cover.out

# Go knows itself what has to be built again.
.PHONY: bin/ctl bin/withpg
bin/ctl:
	@go build -o $@ ./cmd/ctl

bin/withpg:
	@go build -buildvcs=false -o $@ ./internal/pgtest/cmd/withpg
