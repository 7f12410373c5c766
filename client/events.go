//nolint:bodyclose // read closes what the generated calls return
package client

import (
	"context"
	"encoding/json"
	"time"
)

// ListEvents reads a page of what happened, in the order of the log; nil begins with the oldest event that is
// kept. NextCursor is always there: go on from it.
func (c *Client) ListEvents(ctx context.Context, params *ListEventsParams) (CloudEventPage, error) {
	return read[CloudEventPage](c.api.ListEvents(ctx, params))
}

// FollowEvents hands pages of what happens to handle, as it happens, until the context ends, handle fails or
// the server refuses; its error says which. It begins where params say; nil begins with the oldest event that
// is kept. A page may be empty: then only its NextCursor is news.
//
// Keep the NextCursor of a page when you have done all that its events ask for, and begin with it the next
// time: then you miss nothing. An event that you see twice has the same ID. A *Problem with the code
// cursor_expired says that you were away for longer than events are kept.
func (c *Client) FollowEvents(
	ctx context.Context, params *ListEventsParams, handle func(context.Context, CloudEventPage) error,
) error {
	next := ListEventsParams{}
	if params != nil {
		next = *params
	}
	next.Wait = new(int32(waitMax / time.Second))
	for {
		page, err := c.ListEvents(ctx, &next)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && page.isNews(next.Cursor) {
			err = handle(ctx, page)
		}
		if err == nil && len(page.Events) == 0 {
			err = c.doer.sleep(ctx, awaitPause) // a busy server answers an empty page at once
		}
		if err != nil {
			return err
		}
		next.Cursor, next.From = &page.NextCursor, nil
	}
}

// isNews says whether a page tells more than that one may go on from where one is.
func (p CloudEventPage) isNews(cursor *string) bool {
	return len(p.Events) > 0 || cursor == nil || *cursor != p.NextCursor
}

// EventTypes reads which types of events there are.
func (c *Client) EventTypes(ctx context.Context) ([]EventType, error) {
	out, err := read[EventTypeList](c.api.ListEventTypes(ctx))
	return out.EventTypes, err
}

// EventTypeSchema reads the JSON Schema of what events of a type have as Data.
func (c *Client) EventTypeSchema(ctx context.Context, name string) (json.RawMessage, error) {
	return read[json.RawMessage](c.api.GetEventTypeSchema(ctx, name))
}
