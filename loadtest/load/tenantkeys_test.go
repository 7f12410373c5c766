package load

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"example.com/holdfast/internal/ledger"
	"example.com/holdfast/internal/pgtest"
	"example.com/holdfast/internal/tenancy"
)

// tenantKeys makes keys of a tenant called "load" and returns them with the tenant's accounts.
func tenantKeys(t *testing.T, db *pgtest.Database, currency string) (*TenantKeys, []ledger.Account) {
	t.Helper()
	made, err := MakeTenantKeys(t.Context(), TenantKeysOptions{
		Database: db.URL, Tenant: "load", Accounts: 50, Fund: 20_000, Currency: currency,
		Now: time.Now, //nolint:forbidigo // a load runs by the wall clock
	})
	require.NoError(t, err)
	id, err := tenancy.NewService(db.Pool, made.now).FindTenant(t.Context(), "load")
	require.NoError(t, err)
	accounts, err := ledger.NewService(db.Pool).Accounts(t.Context(), id, uuid.Nil, pageSize)
	require.NoError(t, err)
	return made, accounts
}

func TestKeysOfATenantEndWithTheLoad(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	made, _ := tenantKeys(t, db, "EUR")
	require.Len(t, made.Keys, 3)
	for _, k := range made.Keys {
		who, err := tenancy.NewService(db.Pool, made.now).Authenticate(t.Context(), k.Secret)
		require.NoError(t, err)
		require.Equal(t, k.Class, string(who.Class))
		require.ElementsMatch(t, tenancy.Scopes(), who.Scopes)
	}
	require.NoError(t, made.Revoke(t.Context()))
	for _, k := range made.Keys {
		_, err := tenancy.NewService(db.Pool, made.now).Authenticate(t.Context(), k.Secret)
		require.ErrorContains(t, err, "not valid")
	}
}

func TestATenantGetsMoneyOnceForEachCurrency(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	first, accounts := tenantKeys(t, db, "EUR")
	require.NoError(t, first.Revoke(t.Context()))
	require.Len(t, accounts, 2, "one outside, one that the money comes from")
	require.Equal(t, []string{ledger.KindExternal, ledger.KindUser},
		[]string{accounts[0].Kind, accounts[1].Kind})
	require.EqualValues(t, 50*20_000*openingFills, accounts[1].Posted)

	again, accounts := tenantKeys(t, db, "EUR")
	require.NoError(t, again.Revoke(t.Context()))
	require.Len(t, accounts, 2, "it has money")

	other, accounts := tenantKeys(t, db, "USD")
	require.NoError(t, other.Revoke(t.Context()))
	require.Len(t, accounts, 4, "it has none of this currency")
}

func TestKeysThatCouldNotBeMadeNeedNoEnd(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	made, err := MakeTenantKeys(t.Context(), TenantKeysOptions{
		Database: db.URL, Tenant: "load", Accounts: 2, Fund: fundMin, Currency: "EUR",
		Now: time.Now, //nolint:forbidigo // a load runs by the wall clock
	})
	require.ErrorContains(t, err, "load", "there is no schema")
	require.NoError(t, made.Revoke(t.Context()))
	made, err = MakeTenantKeys(t.Context(), TenantKeysOptions{Database: "nowhere://"})
	require.Error(t, err)
	require.NoError(t, made.Revoke(t.Context()))
}
