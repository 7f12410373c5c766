//nolint:bodyclose // read closes what the generated calls return
package client

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// CreateTransfer creates a transfer. When it returns without an error the money is held.
func (c *Client) CreateTransfer(
	ctx context.Context, t NewTransfer, edit ...RequestEditorFn,
) (Transfer, error) {
	return read[Transfer](c.api.CreateTransfer(ctx, t, edit...))
}

// CreateTransfers creates up to 100 transfers, each by itself, and returns a result for each.
func (c *Client) CreateTransfers(
	ctx context.Context, ts []NewTransfer, edit ...RequestEditorFn,
) ([]TransferResult, error) {
	out, err := read[TransferResults](c.api.CreateTransfers(ctx, TransferBatch{Transfers: ts}, edit...))
	return out.Results, err
}

// PreviewTransfers says what CreateTransfers would do now, and does nothing.
func (c *Client) PreviewTransfers(ctx context.Context, ts []NewTransfer) ([]TransferResult, error) {
	out, err := read[TransferResults](c.api.PreviewTransfers(ctx, TransferBatch{Transfers: ts}))
	return out.Results, err
}

// Transfer reads a transfer.
func (c *Client) Transfer(ctx context.Context, id TransferID) (Transfer, error) {
	return read[Transfer](c.api.GetTransfer(ctx, id))
}

// AwaitTransfer reads a transfer when it has ended. When the context ends first, it returns what it
// read last, if anything, with the context's error.
func (c *Client) AwaitTransfer(ctx context.Context, id TransferID) (Transfer, error) {
	return await(ctx, c.doer.sleep, func(wait RequestEditorFn) (Transfer, bool, error) {
		t, err := read[Transfer](c.api.GetTransfer(ctx, id, wait))
		return t, t.Status.Terminal(), err
	})
}

// await asks for something until it has ended. Each time the server is asked to wait.
func await[T any](
	ctx context.Context, sleep func(context.Context, time.Duration) error,
	ask func(RequestEditorFn) (T, bool, error),
) (T, error) {
	prefer := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Prefer", "wait="+strconv.Itoa(int(waitMax/time.Second)))
		return nil
	}
	var last T
	for {
		out, ended, err := ask(prefer)
		if err != nil && ctx.Err() != nil {
			return last, ctx.Err()
		}
		if err != nil || ended {
			return out, err
		}
		last = out
		if err := sleep(ctx, awaitPause); err != nil {
			return last, err
		}
	}
}

// ListTransfers reads a page of transfers, newest first; nil lists all.
func (c *Client) ListTransfers(ctx context.Context, params *ListTransfersParams) (TransferPage, error) {
	return read[TransferPage](c.api.ListTransfers(ctx, params))
}

// TransferEvents reads what happened to a transfer after a sequence number.
func (c *Client) TransferEvents(ctx context.Context, id TransferID, after int32) ([]Event, error) {
	out, err := read[EventList](c.api.ListTransferEvents(ctx, id, &ListTransferEventsParams{After: &after}))
	return out.Events, err
}

// CancelTransfer takes an open transfer back.
func (c *Client) CancelTransfer(
	ctx context.Context, id TransferID, reason string, edit ...RequestEditorFn,
) (Transfer, error) {
	return read[Transfer](c.api.CancelTransfer(ctx, id, CancelRequest{Reason: reason}, edit...))
}

// ReverseTransfer takes a settled transfer back; a request without a value takes all that is left.
func (c *Client) ReverseTransfer(
	ctx context.Context, id TransferID, r ReversalRequest, edit ...RequestEditorFn,
) (Transfer, error) {
	return read[Transfer](c.api.ReverseTransfer(ctx, id, r, edit...))
}

// CreateAccount opens an account.
func (c *Client) CreateAccount(ctx context.Context, a NewAccount, edit ...RequestEditorFn) (Account, error) {
	return read[Account](c.api.CreateAccount(ctx, a, edit...))
}

// Account reads an account with its balance.
func (c *Client) Account(ctx context.Context, id AccountID) (Account, error) {
	return read[Account](c.api.GetAccount(ctx, id))
}

// ListAccounts reads a page of accounts, oldest first; nil begins with the first.
func (c *Client) ListAccounts(ctx context.Context, params *ListAccountsParams) (AccountPage, error) {
	return read[AccountPage](c.api.ListAccounts(ctx, params))
}

// SetAccountStatus freezes, unfreezes or closes an account.
func (c *Client) SetAccountStatus(
	ctx context.Context, id AccountID, status AccountStatus, edit ...RequestEditorFn,
) (Account, error) {
	return read[Account](c.api.SetAccountStatus(ctx, id, AccountStatusRequest{Status: status}, edit...))
}

// Balance reads what is posted, held and available on an account now.
func (c *Client) Balance(ctx context.Context, id AccountID) (Balance, error) {
	return read[Balance](c.api.GetBalance(ctx, id, nil))
}

// BalanceAt reads what was posted on an account at a time.
func (c *Client) BalanceAt(ctx context.Context, id AccountID, at time.Time) (Balance, error) {
	return read[Balance](c.api.GetBalance(ctx, id, &GetBalanceParams{At: &at}))
}

// Postings reads a page of an account's history, newest first; nil begins with the newest.
func (c *Client) Postings(
	ctx context.Context, id AccountID, params *ListPostingsParams,
) (PostingPage, error) {
	return read[PostingPage](c.api.ListPostings(ctx, id, params))
}

// Explain reads what a problem code means.
func (c *Client) Explain(ctx context.Context, code string) (ProblemMeaning, error) {
	return read[ProblemMeaning](c.api.GetProblem(ctx, code))
}
