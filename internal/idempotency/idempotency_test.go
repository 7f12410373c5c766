package idempotency

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/idempotency/internal/idempotencydb"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/pgtx"
	"example.com/holdfast/internal/problem"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestParseKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", keyMaxBytes)
	for _, c := range []struct {
		name, header, key string
		code              problem.Code
	}{
		{"bare", "order-7", "order-7", ""},
		{"quoted is the same key", `"order-7"`, "order-7", ""},
		{"every visible byte but quote and backslash", visible(), visible(), ""},
		{"one byte", "k", "k", ""},
		{"longest", long, long, ""},
		{"longest quoted", `"` + long + `"`, long, ""},
		{"no header", "", "", problem.KeyMissing},
		{"empty string", `""`, "", problem.KeyInvalid},
		{"too long", long + "k", "", problem.KeyInvalid},
		{"too long quoted", `"` + long + `k"`, "", problem.KeyInvalid},
		{"one quote", `"`, "", problem.KeyInvalid},
		{"only an opening quote", `"order-7`, "", problem.KeyInvalid},
		{"only a closing quote", `order-7"`, "", problem.KeyInvalid},
		{"quote inside", `"order"7"`, "", problem.KeyInvalid},
		{"escape", `"order\"7"`, "", problem.KeyInvalid},
		{"space", "order 7", "", problem.KeyInvalid},
		{"control", "order\x007", "", problem.KeyInvalid},
		{"line break", "order\n7", "", problem.KeyInvalid},
		{"delete", "order\x7f7", "", problem.KeyInvalid},
		{"not ASCII", "ordér-7", "", problem.KeyInvalid},
		{"not UTF-8", "order\xff7", "", problem.KeyInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			key, err := ParseKey(c.header)
			require.Equal(t, c.key, key)
			if c.code == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, c.code, problem.Of(err).Code)
		})
	}
}

func visible() string {
	var all strings.Builder
	for b := byte('!'); b <= '~'; b++ {
		if b != '"' && b != '\\' {
			all.WriteByte(b)
		}
	}
	return all.String()
}

func TestHashDiffersByEachPart(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]string{}
	for name, hash := range map[string][32]byte{
		"request":       Hash("POST", "/v1/transfers", "1", []byte(`{"a":1}`)),
		"method":        Hash("PUT", "/v1/transfers", "1", []byte(`{"a":1}`)),
		"route":         Hash("POST", "/v1/accounts", "1", []byte(`{"a":1}`)),
		"version":       Hash("POST", "/v1/transfers", "2", []byte(`{"a":1}`)),
		"body":          Hash("POST", "/v1/transfers", "1", []byte(`{"a":2}`)),
		"no body":       Hash("POST", "/v1/transfers", "1", nil),
		"part moved":    Hash("POST/v1", "/transfers", "1", []byte(`{"a":1}`)),
		"moved to body": Hash("POST", "/v1/transfers", "", []byte(`1{"a":1}`)),
		"all in body":   Hash("", "", "", []byte(`POST/v1/transfers1{"a":1}`)),
	} {
		require.Empty(t, seen[hash], name)
		seen[hash] = name
	}
	_, same := seen[Hash("POST", "/v1/transfers", "1", []byte(`{"a":1}`))]
	require.True(t, same)
}

// batch opens the keys, lets decide use them, and commits what was stored.
func batch(t *testing.T, pool *pgxpool.Pool, keys []Key, decide func(*Ledger)) error {
	t.Helper()
	var l *Ledger
	return pgtx.Pipeline(t.Context(), pool, "test",
		func(read *pgx.Batch) { l = Open(read, keys) },
		func(write *pgx.Batch) error {
			decide(l)
			return l.Write(t.Context(), write, time.Unix(1_000, 0))
		})
}

func requireKnown(t *testing.T, l *Ledger, k Key, want Response) {
	t.Helper()
	got, found, err := l.Find(k)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want, got)
}

func requireUnknown(t *testing.T, l *Ledger, k Key) {
	t.Helper()
	_, found, err := l.Find(k)
	require.NoError(t, err)
	require.False(t, found)
}

func TestABatchOfKeys(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	one := Key{TenantID: uuid.New(), Key: "one", Hash: Hash("POST", "/", "1", []byte("1"))}
	two, foreign, changed := one, one, one
	two.Key, foreign.TenantID, changed.Hash = "two", uuid.New(), Hash("POST", "/", "1", []byte("2"))
	first := Response{Status: 202, Location: "/v1/transfers/1", Body: []byte("first\x00\xff")}
	empty := Response{Status: 204}

	require.NoError(t, batch(t, pool, []Key{one, two, one}, func(l *Ledger) {
		requireUnknown(t, l, one)
		l.Store(one, first)
		first.Replayed = true
		requireKnown(t, l, one, first) // the second of one batch sees the first
		_, _, err := l.Find(changed)
		require.Equal(t, problem.KeyReused, problem.Of(err).Code)
		requireUnknown(t, l, two)
		l.Store(two, empty)
	}))
	require.NoError(t, batch(t, pool, []Key{two, one, foreign}, func(l *Ledger) {
		requireKnown(t, l, one, first)
		requireKnown(t, l, two, Response{Status: 204, Body: []byte{}, Replayed: true})
		requireUnknown(t, l, foreign)
		_, _, err := l.Find(changed)
		require.Equal(t, problem.KeyReused, problem.Of(err).Code)
	}))
	err := batch(t, pool, []Key{foreign}, func(l *Ledger) { l.Store(one, first) })
	require.True(t, pgtx.Raced(err), "who stores a known key decides again: %v", err)
}

func TestWhatTheTableCannotStoreIsBroken(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	k := Key{TenantID: uuid.New(), Key: "key"}
	for name, c := range map[string]struct {
		key string
		r   Response
	}{
		"NUL in a key":      {"a\x00b", Response{Status: 200}},
		"invalid UTF-8":     {"a\xff", Response{Status: 200}},
		"NUL in a location": {"key", Response{Status: 200, Location: "/\x00"}},
		"a failure of ours": {"key", Response{Status: 500}},
		"a long key":        {strings.Repeat("k", keyMaxBytes+1), Response{Status: 200}},
	} {
		k.Key = c.key
		err := batch(t, pool, nil, func(l *Ledger) { l.Store(k, c.r) })
		assert.True(t, pgtx.Broken(err), "%s: %v", name, err)
	}
	require.Zero(t, count(t, pool, "idempotency_keys"))
}

func count(t *testing.T, pool *pgxpool.Pool, table string) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

func TestDeleteExpiredRemovesOldKeysInBatches(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const surplus = 10
	_, err := pool.Exec(t.Context(), `
		INSERT INTO idempotency_keys
		SELECT gen_random_uuid(), CASE WHEN i > 0 THEN 'old' ELSE 'new' END, sha256(''), 200, NULL, ''::bytea,
		       now() - $1::interval - sign(i) * interval '1 minute'
		  FROM generate_series(-5, $2) i
		 WHERE i <> 0`, pgtx.Interval(Retention), deleteBatchRows+surplus)
	require.NoError(t, err)
	for _, want := range []int64{deleteBatchRows, surplus, 0} {
		require.NoError(t, pgtx.Run(t.Context(), pool, "delete", func(ctx context.Context, tx pgx.Tx) error {
			n, err := DeleteExpired(ctx, tx)
			require.Equal(t, want, n)
			return err
		}))
	}
	require.Equal(t, 5, count(t, pool, "idempotency_keys WHERE key = 'new'"))
}

func TestExpiredKeysAreFoundByTheirIndex(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	require.NoError(t, pgtx.Run(t.Context(), pool, "explain", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off")
		require.NoError(t, err)
		rows, err := tx.Query(ctx, "EXPLAIN "+idempotencydb.SystemDeleteExpired,
			pgtx.Interval(Retention), deleteBatchRows)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.Contains(t, strings.Join(plan, "\n"), "Bitmap Index Scan on idempotency_keys_created")
		return err
	}))
}
