package tenancy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
	"example.com/holdfast/internal/tenancy/internal/tenancydb"
)

// A key reads <prefix>_<env>_<id>_<secret>; the prefix and the environment are for people and for
// scanners that look for leaked secrets.
const (
	apiPrefix   = "hf"
	adminPrefix = "hfa"
	// idChars is the length of an id: 60 random bits.
	idChars = 12
	// secretBytes is the entropy of a secret.
	secretBytes = 32
	// secretChars is its length as text.
	secretChars = 52
	// envMaxChars bounds the name of an environment.
	envMaxChars = 16
	// keyMaxChars bounds what parse looks at.
	keyMaxChars = 4 + envMaxChars + 1 + idChars + 1 + secretChars
	// alphabet is base32 in lower case: no character needs escaping, a double click selects all of it.
	alphabet = "abcdefghijklmnopqrstuvwxyz234567"
)

// parse takes a key apart; false means that the text is no key of this kind.
func parse(prefix, plain string) (string, string, bool) {
	if len(plain) > keyMaxChars {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(plain, prefix+"_")
	if !ok {
		return "", "", false
	}
	env, rest, _ := strings.Cut(rest, "_")
	id, secret, _ := strings.Cut(rest, "_")
	if !validEnv(env) || len(id) != idChars || len(secret) != secretChars {
		return "", "", false
	}
	if strings.Trim(id, alphabet) != "" || strings.Trim(secret, alphabet) != "" {
		return "", "", false
	}
	return id, secret, true
}

func validEnv(env string) bool {
	return env != "" && len(env) <= envMaxChars && strings.Trim(env, alphabet+"0189") == ""
}

// minted is a new key: plain is shown once, the rest is stored.
type minted struct {
	plain, id string
	sha256    []byte
}

func mint(prefix, env string) (minted, error) {
	if !validEnv(env) {
		return minted{}, fmt.Errorf("environment %q: has to be 1 to %d letters and digits", env, envMaxChars)
	}
	var random [secretBytes + idChars]byte
	if _, err := rand.Read(random[:]); err != nil {
		return minted{}, fmt.Errorf("read random bytes: %w", err)
	}
	text := base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)
	secret := text.EncodeToString(random[:secretBytes])
	id := text.EncodeToString(random[secretBytes:])[:idChars]
	sum := sha256.Sum256([]byte(secret))
	return minted{plain: strings.Join([]string{prefix, env, id, secret}, "_"), id: id, sha256: sum[:]}, nil
}

// CreateTenant makes a tenant, or finds the one that has the name already.
func (s *Service) CreateTenant(ctx context.Context, name string) (uuid.UUID, error) {
	id, err := s.q.SystemFindTenant(ctx, s.pool, name)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return id, wrapTenant(name, err)
	}
	if id, err = uuid.NewV7(); err != nil {
		return uuid.Nil, fmt.Errorf("make tenant id: %w", err)
	}
	err = s.q.SystemInsertTenant(ctx, s.pool, tenancydb.SystemInsertTenantParams{ID: id, Name: name})
	if pgtx.Code(err) == pgtx.CodeUniqueViolation {
		id, err = s.q.SystemFindTenant(ctx, s.pool, name)
	}
	if err != nil {
		return uuid.Nil, wrapTenant(name, err)
	}
	return id, nil
}

// FindTenant finds the tenant that has the name.
func (s *Service) FindTenant(ctx context.Context, name string) (uuid.UUID, error) {
	id, err := s.q.SystemFindTenant(ctx, s.pool, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, problem.New(problem.NotFound, "There is no tenant %q.", name)
	}
	return id, wrapTenant(name, err)
}

func wrapTenant(name string, err error) error {
	if err != nil {
		return fmt.Errorf("tenant %q: %w", name, err)
	}
	return nil
}

// CreateKey makes an API key and returns its text, which cannot be had again.
func (s *Service) CreateKey(
	ctx context.Context, tenantID uuid.UUID, env string, scopes []Scope, class Class,
) (string, error) {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		if !slices.Contains(Scopes(), scope) {
			return "", fmt.Errorf("scope %q: is not known", scope)
		}
		names[i] = string(scope)
	}
	key, err := mint(apiPrefix, env)
	if err != nil {
		return "", err
	}
	err = s.q.InsertAPIKey(ctx, s.pool, tenancydb.InsertAPIKeyParams{
		ID: key.id, TenantID: tenantID, SecretSha256: key.sha256, Scopes: names, TrafficClass: string(class),
	})
	if err != nil {
		return "", fmt.Errorf("insert key of tenant %s: %w", tenantID, err)
	}
	return key.plain, nil
}

// CreateAdminKey makes an admin key for a named person or program and returns its text, which cannot
// be had again.
func (s *Service) CreateAdminKey(ctx context.Context, name, env string, role Role) (string, error) {
	key, err := mint(adminPrefix, env)
	if err != nil {
		return "", err
	}
	err = s.q.SystemInsertAdminKey(ctx, s.pool, tenancydb.SystemInsertAdminKeyParams{
		ID: key.id, Name: name, SecretSha256: key.sha256, Role: string(role),
	})
	if err != nil {
		return "", fmt.Errorf("insert admin key of %q: %w", name, err)
	}
	return key.plain, nil
}

// RevokeKey ends an API key and says whether there was a live one with the id. This instance refuses
// it at once, others within cacheTTL.
func (s *Service) RevokeKey(ctx context.Context, id string) (bool, error) {
	n, err := s.q.SystemRevokeAPIKey(ctx, s.pool, id)
	if err != nil {
		return false, fmt.Errorf("revoke key %s: %w", id, err)
	}
	s.keys.drop(id)
	return n > 0, nil
}

// RevokeAdminKey ends an admin key like RevokeKey.
func (s *Service) RevokeAdminKey(ctx context.Context, id string) (bool, error) {
	n, err := s.q.SystemRevokeAdminKey(ctx, s.pool, id)
	if err != nil {
		return false, fmt.Errorf("revoke admin key %s: %w", id, err)
	}
	s.admins.drop(id)
	return n > 0, nil
}
