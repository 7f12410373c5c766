package httpapi

import (
	"net/http"
	"time"

	"example.com/holdfast/internal/httpapi/internal/adminapi"
	"example.com/holdfast/internal/httpapi/internal/publicapi"
	"example.com/holdfast/internal/mode"
	"example.com/holdfast/internal/tenancy"
)

// The budgets: the longest Request-Timeout that counts.
const (
	readBudget  = 5 * time.Second
	writeBudget = 10 * time.Second
	bulkBudget  = 20 * time.Second
	waitBudget  = 35 * time.Second
)

// class says what a route does to the amount of open work.
type class string

const (
	// Those that create add work: they are asked for admission before their body is read.
	createsTransfer class = "create_transfer"
	createsOrder    class = "create_order"
	createsOther    class = "create_other"
	// changes adds no work.
	changes class = "change"
	// releases ends work, and gives back what it holds.
	releases class = "release"
	// wakes lets something be looked at earlier that would be looked at anyhow: it needs no key.
	wakes class = "wake"
	// reads looks at one thing.
	reads class = "read"
	// lists looks at many, or tries something out.
	lists class = "list"
	// streams looks on and on.
	streams class = "stream"
)

// creation is what a route creates, or "" if it creates nothing.
func (c class) creation() Creation {
	switch c {
	case createsTransfer:
		return CreatesTransfer
	case createsOrder:
		return CreatesOrder
	case createsOther:
		return CreatesOther
	case changes, releases, wakes, reads, lists, streams:
	}
	return ""
}

// work is what a mode may refuse of a route, or "" if it always passes.
func (c class) work() mode.Work {
	switch c {
	case createsTransfer:
		return mode.CreateTransfer
	case createsOrder:
		return mode.CreateOrder
	case createsOther:
		return mode.CreateOther
	case changes:
		return mode.Change
	case lists:
		return mode.List
	case releases, wakes, reads, streams:
	}
	return ""
}

// needs is what a request of the route has to bring along.
type needs uint8

const (
	body needs = 1 << iota
	key
	// optional: the body may be left out.
	optional
	// streamable: a client may ask for a stream of the answer.
	streamable
	// sender: it is about webhooks, which an instance may be without.
	sender
)

// access is the scope or the role that a key needs; open needs no key of ours.
type access string

const (
	open       access = ""
	seesMoney         = access(tenancy.TransfersRead)
	movesMoney        = access(tenancy.TransfersWrite)
	seesAccts         = access(tenancy.AccountsRead)
	opensAccts        = access(tenancy.AccountsWrite)
	seesOrders        = access(tenancy.OrdersRead)
	putsOrders        = access(tenancy.OrdersWrite)
	seesStock         = access(tenancy.InventoryRead)
	keepsStock        = access(tenancy.InventoryWrite)
	seesEvents        = access(tenancy.EventsRead)
	seesHooks         = access(tenancy.WebhooksRead)
	setsHooks         = access(tenancy.WebhooksWrite)
	views             = access(tenancy.Viewer)
	operates          = access(tenancy.Operator)
)

// route is one operation of a contract and what it needs.
type route struct {
	method    string
	pattern   string
	operation string
	access    access
	class     class
	budget    time.Duration
	needs     needs
	// query names the parameters that may be in the query.
	query []string
}

// label names the route in metrics. Streams have a name of their own: they take as long as clients like.
func (r *route) label() string {
	if r.class == streams {
		return r.method + " " + r.pattern + " stream"
	}
	return r.method + " " + r.pattern
}

func (r *route) has(n needs) bool { return r.needs&n != 0 }

// served is a route with the generated code that takes its parameters apart.
type served[W any] struct {
	route

	handle func(*W, http.ResponseWriter, *http.Request)
}

type (
	public = publicapi.ServerInterfaceWrapper
	admin  = adminapi.ServerInterfaceWrapper
)

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete
)

const (
	transfers = "/v1/transfers"
	accounts  = "/v1/accounts"
	orders    = "/v1/orders"
	skus      = "/v1/skus"
	slots     = "/v1/slots"
	hooks     = "/v1/webhook-endpoints"
)

// publicRoutes is the whole public API.
//
//nolint:lll // one line per route
func publicRoutes() []served[public] {
	const hook = hooks + "/{id}"
	find := []string{"status", "account", "created_from", "created_to", "client_reference", "cursor", "limit"}
	findEvent := []string{"type", "wait", "from", "cursor", "limit"}
	findOrder := append([]string{"sku"}, find...)
	page := []string{"cursor", "limit"}
	return []served[public]{
		{route{post, transfers, "createTransfer", movesMoney, createsTransfer, writeBudget, key | body, nil}, (*public).CreateTransfer},
		{route{post, transfers + "/bulk", "createTransfers", movesMoney, createsTransfer, bulkBudget, key | body, nil}, (*public).CreateTransfers},
		{route{post, transfers + "/preview", "previewTransfers", movesMoney, lists, bulkBudget, body, nil}, (*public).PreviewTransfers},
		{route{get, transfers, "listTransfers", seesMoney, lists, readBudget, 0, find}, (*public).ListTransfers},
		{route{get, transfers + "/{id}", "getTransfer", seesMoney, reads, waitBudget, 0, nil}, (*public).GetTransfer},
		{route{get, transfers + "/{id}/events", "listTransferEvents", seesMoney, reads, readBudget, 0, []string{"after"}}, (*public).ListTransferEvents},
		{route{post, transfers + "/{id}/cancel", "cancelTransfer", movesMoney, releases, writeBudget, key | body | optional, nil}, (*public).CancelTransfer},
		{route{post, transfers + "/{id}/reversals", "reverseTransfer", movesMoney, createsTransfer, writeBudget, key | body | optional, nil}, (*public).ReverseTransfer},
		{route{post, accounts, "createAccount", opensAccts, createsOther, writeBudget, key | body, nil}, (*public).CreateAccount},
		{route{get, accounts, "listAccounts", seesAccts, lists, readBudget, 0, page}, (*public).ListAccounts},
		{route{get, accounts + "/{id}", "getAccount", seesAccts, reads, readBudget, 0, nil}, (*public).GetAccount},
		{route{put, accounts + "/{id}/status", "setAccountStatus", opensAccts, changes, writeBudget, key | body, nil}, (*public).SetAccountStatus},
		{route{get, accounts + "/{id}/balance", "getBalance", seesAccts, reads, readBudget, 0, []string{"at"}}, (*public).GetBalance},
		{route{get, accounts + "/{id}/postings", "listPostings", seesAccts, lists, readBudget, 0, page}, (*public).ListPostings},
		{route{post, orders, "createOrder", putsOrders, createsOrder, writeBudget, key | body, nil}, (*public).CreateOrder},
		{route{post, orders + "/preview", "previewOrders", putsOrders, lists, bulkBudget, body, nil}, (*public).PreviewOrders},
		{route{get, orders, "listOrders", seesOrders, lists, readBudget, 0, findOrder}, (*public).ListOrders},
		{route{get, orders + "/{id}", "getOrder", seesOrders, reads, waitBudget, 0, nil}, (*public).GetOrder},
		{route{get, orders + "/{id}/events", "listOrderEvents", seesOrders, reads, readBudget, 0, []string{"after"}}, (*public).ListOrderEvents},
		{route{post, orders + "/{id}/cancel", "cancelOrder", putsOrders, releases, writeBudget, key | body | optional, nil}, (*public).CancelOrder},
		{route{post, skus, "createSku", keepsStock, createsOther, writeBudget, key | body, nil}, (*public).CreateSKU},
		{route{get, skus, "listSkus", seesStock, lists, readBudget, 0, page}, (*public).ListSkus},
		{route{get, skus + "/{id}", "getSku", seesStock, reads, readBudget, 0, nil}, (*public).GetSKU},
		{route{get, skus + "/{id}/stock", "getStock", seesStock, reads, readBudget, 0, nil}, (*public).GetStock},
		{route{post, skus + "/{id}/stock", "changeStock", keepsStock, changes, writeBudget, key | body, nil}, (*public).ChangeStock},
		{route{post, slots, "createSlot", keepsStock, createsOther, writeBudget, key | body, nil}, (*public).CreateSlot},
		{route{get, slots, "listSlots", seesStock, lists, readBudget, 0, []string{"location", "cursor", "limit"}}, (*public).ListSlots},
		{route{post, slots + "/{id}/close", "closeSlot", keepsStock, changes, writeBudget, key | body | optional, nil}, (*public).CloseSlot},
		{route{get, "/v1/events", "listEvents", seesEvents, reads, waitBudget, streamable, findEvent}, (*public).ListEvents},
		{route{get, eventTypes, "listEventTypes", open, reads, readBudget, 0, nil}, (*public).ListEventTypes},
		{route{get, eventTypes + "/{type}/schema", "getEventTypeSchema", open, reads, readBudget, 0, nil}, (*public).GetEventTypeSchema},
		{route{post, hooks, "createWebhookEndpoint", setsHooks, createsOther, writeBudget, sender | key | body, nil}, (*public).CreateWebhookEndpoint},
		{route{get, hooks, "listWebhookEndpoints", seesHooks, lists, readBudget, sender, page}, (*public).ListWebhookEndpoints},
		{route{get, hook, "getWebhookEndpoint", seesHooks, reads, readBudget, sender, nil}, (*public).GetWebhookEndpoint},
		{route{put, hook, "replaceWebhookEndpoint", setsHooks, changes, writeBudget, sender | key | body, nil}, (*public).ReplaceWebhookEndpoint},
		{route{del, hook, "deleteWebhookEndpoint", setsHooks, changes, writeBudget, sender | key, nil}, (*public).DeleteWebhookEndpoint},
		{route{post, hook + "/pause", "pauseWebhookEndpoint", setsHooks, changes, writeBudget, sender | key | body | optional, nil}, (*public).PauseWebhookEndpoint},
		{route{post, hook + "/resume", "resumeWebhookEndpoint", setsHooks, changes, writeBudget, sender | key | body | optional, nil}, (*public).ResumeWebhookEndpoint},
		{route{get, hook + "/secret", "getWebhookSecret", setsHooks, reads, readBudget, sender, nil}, (*public).GetWebhookSecret},
		{route{post, hook + "/secret/rotate", "rotateWebhookSecret", setsHooks, changes, writeBudget, sender | key | body | optional, nil}, (*public).RotateWebhookSecret},
		{route{post, hook + "/ping", "pingWebhookEndpoint", setsHooks, changes, writeBudget, sender | key | body | optional, nil}, (*public).PingWebhookEndpoint},
		{route{post, hook + "/resend", "resendWebhookEvents", setsHooks, changes, writeBudget, sender | key | body, nil}, (*public).ResendWebhookEvents},
		{route{get, hook + "/attempts", "listWebhookAttempts", seesHooks, lists, readBudget, sender, page}, (*public).ListWebhookAttempts},
		{route{get, hook + "/dead-letters", "listWebhookDeadLetters", seesHooks, lists, readBudget, sender, page}, (*public).ListWebhookDeadLetters},
		{route{post, hook + "/dead-letters/redrive", "redriveWebhookDeadLetters", setsHooks, changes, writeBudget, sender | key | body | optional, nil}, (*public).RedriveWebhookDeadLetters},
		{route{post, "/v1/callbacks/payout-rail", "receivePayoutCallback", open, wakes, writeBudget, body, nil}, (*public).ReceivePayoutCallback},
		{route{get, "/problems", "listProblems", open, reads, readBudget, 0, nil}, (*public).ListProblems},
		{route{get, "/problems/{code}", "getProblem", open, reads, readBudget, 0, nil}, (*public).GetProblem},
		{route{get, "/livez", "getLivez", open, reads, readBudget, 0, nil}, (*public).GetLivez},
	}
}

// adminRoutes is the whole admin API.
//
//nolint:lll // one line per route
func adminRoutes() []served[admin] {
	const (
		tenant = "/admin/v1/tenants/{tenant_id}"
		review = tenant + "/transfers/{id}/review"
	)
	return []served[admin]{
		{route{get, "/livez", "getLivez", open, reads, readBudget, 0, nil}, (*admin).GetLivez},
		{route{get, "/readyz", "getReadyz", open, reads, readBudget, 0, nil}, (*admin).GetReadyz},
		{route{get, "/admin/v1/status", "getStatus", views, reads, readBudget, 0, nil}, (*admin).GetStatus},
		{route{get, "/admin/v1/mode", "getMode", views, reads, readBudget, 0, nil}, (*admin).GetMode},
		{route{get, "/admin/v1/mode/history", "listModeChanges", views, reads, readBudget, 0, []string{"before", "limit"}}, (*admin).ListModeChanges},
		{route{get, "/admin/v1/mode/simulation", "simulateMode", views, reads, readBudget, 0, []string{"since_seconds"}}, (*admin).SimulateMode},
		{route{put, "/admin/v1/mode/override", "setModeOverride", operates, changes, writeBudget, key | body, nil}, (*admin).SetModeOverride},
		{route{get, "/admin/v1/reviews", "listReviews", views, reads, readBudget, 0, []string{"limit"}}, (*admin).ListReviews},
		{route{post, review, "decideReview", operates, changes, writeBudget, key | body, nil}, (*admin).DecideReview},
		{route{get, tenant + "/transfers/{id}/attempts", "listTransferAttempts", views, reads, readBudget, 0, nil}, (*admin).ListTransferAttempts},
		{route{get, tenant + "/risk-postures", "listRiskPostures", views, reads, readBudget, 0, []string{"limit"}}, (*admin).ListRiskPostures},
		{route{put, tenant + "/risk-postures/{currency}", "setRiskPosture", operates, changes, writeBudget, key | body, nil}, (*admin).SetRiskPosture},
		{route{get, "/admin/v1/dependencies", "listDependencies", views, reads, readBudget, 0, nil}, (*admin).ListDependencies},
		{route{put, "/admin/v1/dependencies/{dependency}/limit", "setDependencyLimit", operates, changes, writeBudget, key | body, nil}, (*admin).SetDependencyLimit},
		{route{get, "/admin/v1/queues", "listQueues", views, reads, readBudget, 0, nil}, (*admin).ListQueues},
		{route{get, "/admin/v1/webhook-endpoints", "listFailingWebhookEndpoints", views, reads, readBudget, sender, []string{"limit"}}, (*admin).ListFailingWebhookEndpoints},
		{route{post, tenant + "/webhook-endpoints/{id}/redrive", "redriveWebhookEndpoint", operates, changes, writeBudget, sender | key | body | optional, nil}, (*admin).RedriveWebhookEndpoint},
		{route{get, "/admin/v1/outbox", "getOutbox", views, reads, readBudget, 0, nil}, (*admin).GetOutbox},
		{route{get, "/admin/v1/dead-letters", "listDeadLetters", views, reads, readBudget, 0, []string{"limit"}}, (*admin).ListDeadLetters},
	}
}
