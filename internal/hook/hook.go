// Package hook owns what leaves the server when something happens: the rules
// that say which events a receiver wants, the delivery by webhook, program and
// mail out of the outbox of the store, and the questions to receivers that may
// refuse. It does not own the record of events (package events) and decides
// nothing by itself. It is apart from events because it alone may open
// connections to the outside and start programs, on behalf of nobody but the
// configuration file.
package hook

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
	"github.com/portreeve/portreeve/internal/fault"
)

// sender delivers to one receiver. Deliver returns nil when all of the
// messages have arrived; ask returns the receiver's answer.
type sender interface {
	deliver(ctx context.Context, ms []message) error
	ask(ctx context.Context, m message) (answer, error)
	target() string // for people, without secrets
	close()
}

// answer is what a receiver said to a question.
type answer struct {
	refused bool
	reason  string // for the client, one printable line; may be empty
}

// rule is one [[hook]] entry, ready to use.
type rule struct {
	config.Hook
	kinds  []events.Kind
	sender sender
	wake   chan struct{} // something new is in the outbox
	busy   chan struct{} // a place for each question under way
}

// Set is the hooks of one configuration. It does not change.
type Set struct{ rules []*rule }

// Compile makes the hooks of a configuration: secrets and certificates are
// read, programs are checked. The error names the hook and what to do.
func Compile(cfg *config.Config) (*Set, error) {
	s := &Set{}
	for i := range cfg.Hooks {
		r := &rule{Hook: cfg.Hooks[i], wake: make(chan struct{}, 1), busy: make(chan struct{}, cfg.Hooks[i].Parallel)}
		for _, k := range r.On {
			r.kinds = append(r.kinds, events.Kind(k))
		}
		var err error
		switch r.Deliver {
		case config.DeliverWebhook:
			r.sender, err = newWebhook(&r.Hook)
		case config.DeliverProgram:
			r.sender, err = newProgram(&r.Hook)
		case config.DeliverMail:
			r.sender, err = newMailer(&r.Hook, &cfg.Mail)
		default:
			err = fmt.Errorf("deliver = %q is unknown", r.Deliver)
		}
		if err != nil {
			return nil, fmt.Errorf("hook %s: %w", r.Name, err)
		}
		s.rules = append(s.rules, r)
	}
	return s, nil
}

// Names are those of the hooks that are told of events; ones that are only
// asked leave nothing in the outbox.
func (s *Set) names() []string {
	var out []string
	for _, r := range s.rules {
		if r.Mode != config.HookAsk {
			out = append(out, r.Name)
		}
	}
	return out
}

// Programs are the programs that hooks run, each once.
func (s *Set) Programs() []string {
	var out []string
	for _, r := range s.rules {
		if r.Deliver == config.DeliverProgram && !slices.Contains(out, r.Program[0]) {
			out = append(out, r.Program[0])
		}
	}
	return out
}

func (s *Set) find(name string) *rule {
	i := slices.IndexFunc(s.rules, func(r *rule) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return s.rules[i]
}

func (s *Set) close() {
	for _, r := range s.rules {
		r.sender.close()
	}
}

// alwaysFailed are events that tell of a failure whatever their result says.
var alwaysFailed = []events.Kind{events.LoginFailed, events.Refused, events.QuotaFull, events.DataFailed}

// sized are the kinds that min_size and max_size are about.
var sized = []events.Kind{events.Upload, events.Download, events.Copy}

// wants says whether the rule is for e. groups is asked for the groups of the
// event's account, at most once.
func (r *rule) wants(e *events.Event, groups func() []string) bool {
	if !slices.Contains(r.kinds, e.Kind) || e.Kind == events.HookDead && e.Target == r.Name {
		return false
	}
	if failed := e.Fault != fault.None; !slices.Contains(alwaysFailed, e.Kind) {
		if failed && r.Outcome == "ok" || !failed && r.Outcome == "failed" {
			return false
		}
	}
	return r.about(e) && (len(r.Groups) == 0 || slices.ContainsFunc(groups(), func(g string) bool { return matches(r.Groups, g) }))
}

// about checks the conditions that the event itself answers.
func (r *rule) about(e *events.Event) bool {
	switch {
	case len(r.Users) > 0 && (e.User == "" || !matches(r.Users, e.User)):
		return false
	case len(r.Protocols) > 0 && !slices.Contains(r.Protocols, e.Protocol):
		return false
	case len(r.Paths) > 0 && !matches(r.Paths, e.Path) && (e.Target == "" || !matches(r.Paths, e.Target)):
		return false
	case !slices.Contains(sized, e.Kind):
		return true
	}
	return e.Bytes >= int64(r.MinSize) && (r.MaxSize == 0 || e.Bytes <= int64(r.MaxSize))
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return account.MatchName(p, name) })
}

// State is a hook as it is shown to an administrator.
type State struct {
	Name      string        `json:"name"`
	On        []events.Kind `json:"on"`
	Mode      string        `json:"mode"`
	Deliver   string        `json:"deliver"`
	Target    string        `json:"target"` // URL, program or addresses
	Waiting   int64         `json:"waiting"`
	Dead      int64         `json:"dead"`
	Delivered int64         `json:"delivered"` // since the server's start
	Failed    int64         `json:"failed"`    // tries, likewise
	Problem   string        `json:"problem,omitempty"`
}

// States describes the hooks, with what the outbox holds of each. Hooks that
// are gone but have something in it are shown too, with deliver empty.
func (s *Set) States(backlog map[string]events.Backlog) []State {
	out := []State{}
	for _, r := range s.rules {
		out = append(out, State{Name: r.Name, On: r.kinds, Mode: string(r.Mode), Deliver: string(r.Deliver), Target: r.sender.target()})
	}
	for name := range backlog {
		if s.find(name) == nil {
			out = append(out, State{Name: name, On: []events.Kind{}})
		}
	}
	for i := range out {
		b := backlog[out[i].Name]
		out[i].Waiting, out[i].Dead = b.Waiting, b.Dead
	}
	slices.SortStableFunc(out, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// secretLine reads the first line of a file.
func secretLine(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return "", fmt.Errorf("the first line of %s is empty", file)
	}
	return line, nil
}
