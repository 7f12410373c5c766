package tenancy

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/problem"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type bundle struct {
	*Service
	pool   *pgxpool.Pool
	clock  *clock
	tenant uuid.UUID
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func setup(t *testing.T) bundle {
	t.Helper()
	pool := pgtest.New(t)
	c := &clock{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	s := NewService(pool, c.Now)
	tenant, err := s.CreateTenant(t.Context(), "acme")
	require.NoError(t, err)
	return bundle{s, pool, c, tenant}
}

func (b bundle) key(t *testing.T) string {
	t.Helper()
	scopes := []Scope{TransfersRead, TransfersWrite}
	plain, err := b.CreateKey(t.Context(), b.tenant, "test", scopes, Sheddable)
	require.NoError(t, err)
	return plain
}

func idOf(plain string) string { return strings.Split(plain, "_")[2] }

func requireRefused(t *testing.T, err error) {
	t.Helper()
	require.True(t, problem.Is(err, problem.Unauthenticated), "%v", err)
	require.Equal(t, "The key is not valid.", problem.Of(err).Detail)
}

func TestAKeyOpensForItsTenantWithItsScopesAndClass(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := b.key(t)
	require.Regexp(t, `^hf_test_[a-z2-7]{12}_[a-z2-7]{52}$`, plain)
	p, err := b.Authenticate(t.Context(), plain)
	require.NoError(t, err)
	require.Equal(t, Principal{
		KeyID: idOf(plain), TenantID: b.tenant, Class: Sheddable,
		Scopes: []Scope{TransfersRead, TransfersWrite},
	}, p)
	require.True(t, p.May(TransfersWrite))
	require.False(t, p.May(AccountsRead))
}

func TestEveryScopeAllowsItselfAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, scope := range Scopes() {
		plain, err := b.CreateKey(t.Context(), b.tenant, "test", []Scope{scope}, Standard)
		require.NoError(t, err)
		p, err := b.Authenticate(t.Context(), plain)
		require.NoError(t, err)
		for _, other := range Scopes() {
			require.Equal(t, other == scope, p.May(other), "%s of a key with %s", other, scope)
		}
	}
}

func TestOnlyTheHashOfTheSecretIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := b.key(t)
	var row string
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT k::text FROM api_keys k").Scan(&row))
	require.NotContains(t, row, strings.Split(plain, "_")[3])
}

func TestWhatIsNoValidKeyGetsOneAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := b.key(t)
	admin, err := b.CreateAdminKey(t.Context(), "kim", "test", Viewer)
	require.NoError(t, err)
	other := b.key(t)
	parts, others := strings.Split(plain, "_"), strings.Split(other, "_")
	for name, wrong := range map[string]string{
		"empty":                  "",
		"a word":                 "secret",
		"another prefix":         "hx" + plain[2:],
		"an admin key":           admin,
		"upper case":             strings.ToUpper(plain),
		"a secret of another id": strings.Join([]string{"hf", "test", parts[2], others[3]}, "_"),
		"an unknown id":          strings.Join([]string{"hf", "test", "aaaaaaaaaaaa", parts[3]}, "_"),
		"a short secret":         plain[:len(plain)-1],
		"a long secret":          plain + "a",
		"a huge text":            plain + strings.Repeat("a", 1<<20),
		"no environment":         strings.Join([]string{"hf", "", parts[2], parts[3]}, "_"),
		"a NUL in the id":        strings.Join([]string{"hf", "test", "\x00" + parts[2][1:], parts[3]}, "_"),
		"not UTF-8":              strings.Join([]string{"hf", "test", "\xff" + parts[2][1:], parts[3]}, "_"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.Authenticate(t.Context(), wrong)
			requireRefused(t, err)
		})
	}
}

func TestARoleMayDoWhatALesserRoleMay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	roles := []Role{Viewer, Operator, Approver}
	for i, role := range roles {
		plain, err := b.CreateAdminKey(t.Context(), "kim", "test", role)
		require.NoError(t, err)
		a, err := b.AuthenticateAdmin(t.Context(), plain)
		require.NoError(t, err)
		require.Equal(t, Admin{KeyID: idOf(plain), Name: "kim", Role: role}, a)
		for j, asked := range roles {
			require.Equal(t, j <= i, a.May(asked), "%s as %s", role, asked)
		}
		require.False(t, a.May("owner"))
	}
	require.False(t, Admin{}.May(Viewer))
}

func TestARevokedKeyIsRefusedAtOnceHereAndElsewhereAfterTheTTL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := b.key(t)
	elsewhere := NewService(b.pool, b.clock.Now)
	for _, s := range []*Service{b.Service, elsewhere} {
		_, err := s.Authenticate(t.Context(), plain)
		require.NoError(t, err)
	}
	revoked, err := b.RevokeKey(t.Context(), idOf(plain))
	require.NoError(t, err)
	require.True(t, revoked)
	_, err = b.Authenticate(t.Context(), plain)
	requireRefused(t, err)

	b.clock.advance(cacheTTL - time.Nanosecond)
	_, err = elsewhere.Authenticate(t.Context(), plain)
	require.NoError(t, err)
	b.clock.advance(time.Nanosecond)
	_, err = elsewhere.Authenticate(t.Context(), plain)
	requireRefused(t, err)

	again, err := b.RevokeKey(t.Context(), idOf(plain))
	require.NoError(t, err)
	require.False(t, again)
}

func TestARevokedAdminKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain, err := b.CreateAdminKey(t.Context(), "kim", "test", Operator)
	require.NoError(t, err)
	_, err = b.AuthenticateAdmin(t.Context(), plain)
	require.NoError(t, err)
	revoked, err := b.RevokeAdminKey(t.Context(), idOf(plain))
	require.NoError(t, err)
	require.True(t, revoked)
	_, err = b.AuthenticateAdmin(t.Context(), plain)
	requireRefused(t, err)
}

func TestAKnownKeyCostsNoQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := b.key(t)
	_, err := b.Authenticate(t.Context(), plain)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a query with this context fails
	_, err = b.Authenticate(ended, plain)
	require.NoError(t, err)
}

func TestAnUnknownIDIsAskedForOnceASecond(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plain := "hf_test_aaaaaaaaaaaa_" + strings.Repeat("a", secretChars)
	_, err := b.Authenticate(t.Context(), plain)
	requireRefused(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Authenticate(ended, plain)
	requireRefused(t, err)
	b.clock.advance(absentTTL)
	_, err = b.Authenticate(ended, plain)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, problem.Is(err, problem.Unauthenticated))
}

func TestATenantIsMadeOncePerName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var group sync.WaitGroup
	ids := make([]uuid.UUID, 8)
	errs := make([]error, len(ids))
	for i := range ids {
		group.Go(func() { ids[i], errs[i] = b.CreateTenant(t.Context(), "globex") })
	}
	group.Wait()
	for i := range ids {
		require.NoError(t, errs[i])
		require.Equal(t, ids[0], ids[i])
	}
	require.NotEqual(t, b.tenant, ids[0])
	found, err := b.FindTenant(t.Context(), "globex")
	require.NoError(t, err)
	require.Equal(t, ids[0], found)
	_, err = b.FindTenant(t.Context(), "initech")
	require.True(t, problem.Is(err, problem.NotFound))
	_, err = b.CreateTenant(t.Context(), "")
	require.ErrorContains(t, err, `tenant ""`)
}

func TestAKeyOfUnknownScopeClassRoleOrEnvironmentIsNotMade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.CreateKey(t.Context(), b.tenant, "test", []Scope{"money:print"}, Standard)
	require.ErrorContains(t, err, "money:print")
	_, err = b.CreateKey(t.Context(), b.tenant, "test", Scopes(), "royal")
	require.Error(t, err)
	_, err = b.CreateKey(t.Context(), uuid.New(), "test", Scopes(), Standard)
	require.Error(t, err)
	_, err = b.CreateAdminKey(t.Context(), "kim", "test", "owner")
	require.Error(t, err)
	for _, env := range []string{"", "a_b", "Live", strings.Repeat("a", envMaxChars+1)} {
		_, err = b.CreateKey(t.Context(), b.tenant, env, Scopes(), Standard)
		require.ErrorContains(t, err, "environment")
		_, err = b.CreateAdminKey(t.Context(), "kim", env, Viewer)
		require.ErrorContains(t, err, "environment")
	}
}

func TestTheCacheStaysBelowItsBoundAndDropsWhatEndedFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := newCache[int]()
	for i := range cacheMaxEntries {
		c.put(strconv.Itoa(i), i, now, cacheTTL)
	}
	c.put("one more", 1, now, cacheTTL)
	require.Equal(t, cacheMaxEntries, c.size())
	later := now.Add(cacheTTL)
	c.put("later", 2, later, cacheTTL)
	require.Equal(t, 1, c.size())
	v, ok := c.get("later", later)
	require.True(t, ok)
	require.Equal(t, 2, v)
}
