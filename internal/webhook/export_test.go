package webhook

import "time"

// LookEvery makes a Deliverer look at all endpoints more often, so that what a test makes due is seen soon.
func (d *Deliverer) LookEvery(every time.Duration) { d.every = every }

// Cancel does the first part of Stop.
func (d *Deliverer) Cancel() { d.cancel() }
