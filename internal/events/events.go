// Package events owns the record of what happened: one Event for every log-in,
// transfer and change, handed to subscribers and kept in the store. It does
// not decide anything.
package events

import (
	"time"

	"github.com/portreeve/portreeve/internal/fault"
)

// Kind names what happened. The strings are stable: logs, rules and webhooks use them.
type Kind string

// The kinds of event.
const (
	Login          Kind = "login"
	LoginFailed    Kind = "login.failed"
	Logout         Kind = "logout"
	Refused        Kind = "connection.refused"
	Upload         Kind = "upload"
	Download       Kind = "download"
	Listing        Kind = "list"
	Delete         Kind = "delete"
	Rename         Kind = "rename"
	Mkdir          Kind = "mkdir"
	Rmdir          Kind = "rmdir"
	Attr           Kind = "attr"
	Copy           Kind = "copy"
	Link           Kind = "link"
	QuotaFull      Kind = "quota"
	DataFailed     Kind = "data.failed"
	Kick           Kind = "session.kick"
	Ban            Kind = "ban"
	Unban          Kind = "ban.lifted"
	UserChanged    Kind = "user.changed"
	ConfigLoad     Kind = "config.reload"
	Start          Kind = "server.start"
	Stop           Kind = "server.stop"
	AddressChanged Kind = "address.changed"    // the address that passive clients are told
	PortMapped     Kind = "port.mapped"        // by the router in front; also lost and removed
	HookDead       Kind = "hook.dead"          // a delivery was given up; Target is the hook
	TaskRun        Kind = "task"               // Target is the task
	Transcript     Kind = "session.transcript" // asked for, read, ended or removed by an administrator
)

// Event is one thing that happened. A zero Fault is success.
type Event struct {
	ID       int64         `json:"id"`
	Time     time.Time     `json:"time"`
	Kind     Kind          `json:"kind"`
	Node     string        `json:"node,omitempty"`
	Session  string        `json:"session,omitempty"`
	Protocol string        `json:"protocol,omitempty"`
	Listener string        `json:"listener,omitempty"`
	User     string        `json:"user,omitempty"`
	Remote   string        `json:"remote,omitempty"` // address:port
	Path     string        `json:"path,omitempty"`   // client-visible
	Target   string        `json:"target,omitempty"` // rename, copy, link
	Bytes    int64         `json:"bytes,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
	Fault    fault.Kind    `json:"-"`
	Result   string        `json:"result"` // "ok" or the fault's name
	Detail   string        `json:"detail,omitempty"`
}
