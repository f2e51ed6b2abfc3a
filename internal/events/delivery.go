package events

import (
	"encoding/json"
	"time"
)

// Delivery is an event on its way to a hook.
type Delivery struct {
	ID      int64           `json:"id"`
	Message string          `json:"message"` // the same at every try, for receivers that sort out repeats
	Hook    string          `json:"hook"`
	Event   int64           `json:"event"`
	Kind    Kind            `json:"kind"`
	Body    json.RawMessage `json:"body"` // what is delivered
	Created time.Time       `json:"created"`
	Next    time.Time       `json:"next"` // not tried before
	Tries   int             `json:"tries"`
	Dead    time.Time       `json:"dead,omitzero"` // given up at
	Problem string          `json:"problem,omitempty"`
}

// Anybody are the kinds that somebody without an account can cause, as often as
// they like. Where there is not room for all, these give way first.
var Anybody = []Kind{LoginFailed, Refused, Ban, Unban, HookDead}

// Backlog is how many deliveries of a hook there are.
type Backlog struct{ Waiting, Dead int64 }
