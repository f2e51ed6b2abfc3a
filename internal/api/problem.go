package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/fault"
)

// problem is the body of every error answer (RFC 9457 section 3).
type problem struct {
	Type   string `json:"type"` // "about:blank" or a urn naming the fault
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Kind   string `json:"kind,omitempty"` // the fault's stable name
}

// statusOf is the front's table from fault to HTTP status.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NameRefused, fault.Denied:
		return http.StatusForbidden
	case fault.NotExist:
		return http.StatusNotFound
	case fault.Exist, fault.WrongType:
		return http.StatusConflict
	case fault.Login:
		return http.StatusUnauthorized
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Quota, fault.NoSpace:
		return http.StatusInsufficientStorage
	case fault.Busy:
		return http.StatusLocked
	case fault.Limit:
		return http.StatusTooManyRequests
	case fault.Range:
		return http.StatusRequestedRangeNotSatisfiable
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Unavailable, fault.Stopping, fault.Canceled:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fail answers with err as a problem. The text goes out whole: whoever can
// reach this interface administers the server.
func fail(w http.ResponseWriter, err error) {
	k := fault.KindOf(err)
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		k, err = fault.TooLarge, fmt.Errorf("the request body is over the limit of %d bytes", big.Limit)
	}
	status := statusOf(k)
	if errors.Is(err, admin.ErrConflict) {
		status = http.StatusPreconditionFailed
	}
	refuse(w, status, k.String(), sentence(err))
}

// sentence is the innermost text meant for people: the cause of a fault
// without the operation names that Error adds for logs.
func sentence(err error) string {
	if fe, ok := err.(*fault.Error); ok && fe.Err != nil && fe.Op == "" && fe.Path == "" {
		return sentence(fe.Err)
	}
	return err.Error()
}

func refuse(w http.ResponseWriter, status int, kind, detail string) {
	p := problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Kind: kind}
	if kind != "" {
		p.Type = "urn:portreeve:fault:" + kind
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(p) // the client has gone when this fails; nobody is left to tell
}

// problemError turns an error answer back into the fault it came from.
func problemError(status int, p problem) error {
	detail := p.Detail
	if detail == "" {
		detail = fmt.Sprintf("the server answered %d %s", status, http.StatusText(status))
	}
	for _, k := range fault.Kinds() {
		if k.String() == p.Kind {
			return fault.Text(k, detail)
		}
	}
	return fault.Text(fault.Internal, detail)
}
