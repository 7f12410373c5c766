package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"example.com/holdfast/client"
)

const (
	// settersMax is how many requests prepare and check a tenant at once.
	settersMax = 8
	// fundMax bounds the wait for one transfer that fills an account.
	fundMax = 2 * time.Minute
	// pageSize and pagesMax bound the search for the richest account.
	pageSize = 200
	pagesMax = 25
)

// What orders buy.
const (
	skuCount   = 10
	skuPrice   = 1
	location   = "load"
	stockLeast = 2 * RequestsMax
	stockMore  = 100_000_000
)

// caller sends with one key.
type caller struct {
	class, secret string
	tenant        *tenant
}

// tenant is one whose keys we have, with what the load uses of it.
type tenant struct {
	name     string // for people
	api      *client.Client
	accounts []uuid.UUID
	merchant uuid.UUID
	skus     []uuid.UUID
	// posted and onHand are the balances and the stock before the load.
	posted map[uuid.UUID]int64
	onHand map[uuid.UUID]int64
	book   *book
	feed   *feed
	// cursor is where the feed is read on from.
	cursor string
}

// own are all accounts of the load.
func (t *tenant) own() []uuid.UUID { return append(slices.Clone(t.accounts), t.merchant) }

// prepare finds out whose the keys are, and gives every tenant accounts with money, and stock.
func (r *run) prepare(ctx context.Context) error {
	if err := reachable(ctx, r.http, r.base); err != nil {
		return err
	}
	for i, k := range r.o.Keys {
		if err := r.signIn(ctx, i, k); err != nil {
			return err
		}
	}
	for _, t := range r.tenants {
		if err := r.equip(ctx, t); err != nil {
			return fmt.Errorf("load: prepare %s: %w", t.name, err)
		}
	}
	return nil
}

// week is in all names that the load makes: a key is kept for 30 days, so that within the week the same
// things are found again, and next week there are new ones.
func (r *run) week() string {
	year, week := r.began.UTC().ISOWeek()
	return fmt.Sprintf("load-%d-w%02d", year, week)
}

// account opens the nth account of the load, or finds it.
func (r *run) account(ctx context.Context, api *client.Client, n int) (uuid.UUID, error) {
	key := fmt.Sprintf("%s-%s-account-%d", r.week(), r.o.Currency, n)
	a, err := api.CreateAccount(ctx, client.NewAccount{
		Name: fmt.Sprintf("%s%d", accountPrefix, n), Kind: client.AccountKindUser, Currency: r.o.Currency,
	}, client.WithKey(key))
	return a.ID, err
}

// signIn tries a key. Two keys that find the same account are of one tenant.
func (r *run) signIn(ctx context.Context, n int, k Key) error {
	api, err := client.New(r.base, k.Secret, client.WithHTTP(r.http))
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	first, err := r.account(ctx, api, 0)
	if err != nil {
		return fmt.Errorf("load: key %d (%s): %w", n+1, k.Class, explain(err))
	}
	c := &caller{class: k.Class, secret: k.Secret}
	for _, t := range r.tenants {
		if t.merchant == first {
			c.tenant = t
		}
	}
	if c.tenant == nil {
		c.tenant = &tenant{
			name: fmt.Sprintf("tenant %d", len(r.tenants)+1), api: api, merchant: first,
			posted: map[uuid.UUID]int64{}, onHand: map[uuid.UUID]int64{}, book: newBook(),
		}
		r.tenants = append(r.tenants, c.tenant)
	}
	r.callers = append(r.callers, c)
	if err := r.probe(ctx, c); err != nil {
		return fmt.Errorf("load: key %d (%s): %w", n+1, k.Class, explain(err))
	}
	return nil
}

// equip gives a tenant what the load uses, and looks at it.
func (r *run) equip(ctx context.Context, t *tenant) error {
	t.accounts = make([]uuid.UUID, r.o.Accounts)
	err := each(r.o.Accounts, func(i int) error {
		var err error
		t.accounts[i], err = r.account(ctx, t.api, i+1)
		return err
	})
	if err != nil {
		return err
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	if err := r.fill(ctx, t); err != nil {
		return err
	}
	if r.mix.orders() {
		if err := r.stock(ctx, t); err != nil {
			return err
		}
	}
	t.posted, err = t.balances(ctx)
	return err
}

// balances reads what is posted to the accounts of the load; money that is held is an error, since somebody
// else moves it.
func (t *tenant) balances(ctx context.Context) (map[uuid.UUID]int64, error) {
	own := t.own()
	posted := make([]int64, len(own))
	err := each(len(own), func(i int) error {
		b, err := t.api.Balance(ctx, own[i])
		if err == nil && b.Held != nil && *b.Held != 0 {
			err = fmt.Errorf("%d of account %s are held by something that has not ended: %w", *b.Held, own[i],
				errHeld)
		}
		posted[i] = b.Posted
		return err
	})
	found := make(map[uuid.UUID]int64, len(own))
	for i, id := range own {
		found[id] = posted[i]
	}
	return found, err
}

var errHeld = errors.New("only one load may use a tenant at a time")

// fill moves money to the accounts that have too little of it, and waits for it.
func (r *run) fill(ctx context.Context, t *tenant) error {
	missing := make([]int64, len(t.accounts))
	var sum int64
	err := each(len(t.accounts), func(i int) error {
		b, err := t.api.Balance(ctx, t.accounts[i])
		if err == nil && b.Available != nil && *b.Available < r.o.Fund/2 {
			missing[i] = r.o.Fund - *b.Available
		}
		return err
	})
	for _, m := range missing {
		sum += m
	}
	if err != nil || sum == 0 {
		return err
	}
	from, err := r.funder(ctx, t, sum)
	if err != nil {
		return err
	}
	r.say("%s: fills its accounts with %d %s from account %s", t.name, sum, r.o.Currency, from)
	given := make([]uuid.UUID, len(missing))
	err = each(len(missing), func(i int) error {
		if missing[i] == 0 {
			return nil
		}
		var err error
		given[i], err = r.give(ctx, t, client.NewTransfer{
			FromAccount: from, ToAccount: t.accounts[i],
			Amount: client.Amount{Value: missing[i], Currency: r.o.Currency},
		})
		return err
	})
	if err != nil {
		return err
	}
	return t.pass(ctx, slices.DeleteFunc(given, func(id uuid.UUID) bool { return id == uuid.Nil }))
}

// give makes a transfer and waits until it is settled.
func (r *run) give(ctx context.Context, t *tenant, n client.NewTransfer) (uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, fundMax)
	defer cancel()
	made, err := t.api.CreateTransfer(ctx, n)
	if err == nil {
		made, err = t.api.AwaitTransfer(ctx, made.ID)
	}
	if err == nil && made.Status != client.TransferStatusSettled {
		err = fmt.Errorf("transfer %s to fill account %s is %s %s: %w", made.ID, n.ToAccount, made.Status,
			made.Reason, errFunds)
	}
	return made.ID, err
}

var errFunds = errors.New("the load has no money to move: name an account that has, with --funder, or take " +
	"less of it, with --fund")

// funder finds the account that money comes from.
func (r *run) funder(ctx context.Context, t *tenant, least int64) (uuid.UUID, error) {
	best, most := uuid.Nil, int64(-1)
	look := func(a client.Account) {
		if a.Balance.Available != nil && *a.Balance.Available > most && a.Currency == r.o.Currency &&
			a.Kind == client.AccountKindUser && a.Status == client.AccountStatusActive &&
			!slices.Contains(t.own(), a.ID) {
			best, most = a.ID, *a.Balance.Available
		}
	}
	for _, id := range r.o.Funders {
		if a, err := t.api.Account(ctx, id); err == nil { // else it is another tenant's
			look(a)
		}
	}
	params := client.ListAccountsParams{Limit: new(client.Limit(pageSize))}
	for page := 0; page < pagesMax && len(r.o.Funders) == 0; page++ {
		found, err := t.api.ListAccounts(ctx, &params)
		if err != nil {
			return uuid.Nil, err
		}
		for _, a := range found.Accounts {
			look(a)
		}
		if found.NextCursor == "" {
			break
		}
		params.Cursor = &found.NextCursor
	}
	if most < least {
		return uuid.Nil, fmt.Errorf("%d %s are missing and the richest account has %d: %w", least,
			r.o.Currency, max(most, 0), errFunds)
	}
	return best, nil
}

// stock makes the SKUs of the load, or finds them, and looks how many there are.
func (r *run) stock(ctx context.Context, t *tenant) error {
	t.skus = make([]uuid.UUID, skuCount)
	for i := range t.skus {
		name := fmt.Sprintf("%s-%s-%d", r.week(), r.o.Currency, i)
		sku, err := t.api.CreateSKU(ctx, client.NewSKU{
			Code: name, Name: "Something to buy",
			Price: client.Amount{Value: skuPrice, Currency: r.o.Currency},
		}, client.WithKey(name+"-sku"))
		if err != nil {
			return explain(err)
		}
		t.skus[i] = sku.ID
		level, err := t.level(ctx, sku.ID)
		if err == nil && level.Available < stockLeast {
			level, err = t.api.ChangeStock(ctx, sku.ID, client.StockChange{
				Location: location, Kind: client.StockKind("restock"),
				Quantity: stockMore, Reason: "load test",
			})
		}
		if err != nil {
			return explain(err)
		}
		t.onHand[sku.ID] = level.OnHand
	}
	return nil
}

// level is the stock of an SKU where the load buys.
func (t *tenant) level(ctx context.Context, sku uuid.UUID) (client.Stock, error) {
	levels, err := t.api.Stock(ctx, sku)
	for _, l := range levels {
		if l.Location == location {
			return l, err
		}
	}
	return client.Stock{}, err
}

// each does something for 0 to n-1, some at a time.
func each(n int, do func(int) error) error {
	errs := make([]error, settersMax)
	var next atomic.Int64
	var group sync.WaitGroup
	for worker := range errs {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[worker] == nil; i = int(next.Add(1)) - 1 {
				errs[worker] = do(i)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}
