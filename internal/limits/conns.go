package limits

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/portreeve/portreeve/internal/fault"
)

// conns counts connections. One lock is enough: it is taken a few times in the
// life of a connection and held for some map operations.
type conns struct {
	mu     sync.Mutex
	total  int
	half   int // of those, not logged in
	byAddr map[netip.Prefix]*addrCount
	byUser map[string]int
}

type addrCount struct{ all, half int }

func (c *conns) init() {
	c.byAddr = map[netip.Prefix]*addrCount{}
	c.byUser = map[string]int{}
}

// Conn is one counted connection. Release must be called once it is over.
type Conn struct {
	l    *Limits
	key  netip.Prefix
	user string
	in   bool // logged in: counted for user, not half-open
	done bool
}

// Connect counts a connection from addr. It fails with fault.Limit when the
// address is banned or a ceiling is reached; the text is fit for the client.
func (l *Limits) Connect(addr netip.Addr) (*Conn, error) {
	if b, ok := l.Banned(addr); ok {
		if b.Until.IsZero() {
			return nil, fault.Text(fault.Limit, "your address is banned")
		}
		return nil, fault.Text(fault.Limit, "your address is banned; try again after "+b.Until.UTC().Format("2006-01-02 15:04 MST"))
	}
	caps, key, free := l.caps.Load(), Key(addr), l.allowed(addr)
	friend := free || l.isFriend(key)
	c := &l.conns
	c.mu.Lock()
	defer c.mu.Unlock()
	if over(c.total, caps.MaxSessions) {
		return nil, fault.Text(fault.Limit, fmt.Sprintf("the server has its maximum of %d connections; try again later", caps.MaxSessions))
	}
	if l.shed(c.half, caps.MaxHalfTotal, friend) {
		return nil, fault.Text(fault.Limit, "too many connections are logging in just now; try again in a moment")
	}
	n := c.byAddr[key]
	if n == nil {
		n = &addrCount{}
	}
	if !free {
		if over(n.all, caps.MaxPerAddress) {
			return nil, fault.Text(fault.Limit, fmt.Sprintf("your address has its maximum of %d connections; close one first", caps.MaxPerAddress))
		}
		if over(n.half, caps.MaxHalfOpen) {
			return nil, fault.Text(fault.Limit, fmt.Sprintf("your address has its maximum of %d connections that are not logged in; try again in a minute", caps.MaxHalfOpen))
		}
	}
	n.all++
	n.half++
	c.byAddr[key] = n
	c.total++
	c.half++
	return &Conn{l: l, key: key}, nil
}

func over(n, max int) bool { return max >= 0 && n >= max }

// Login counts the connection for user; max is the account's own ceiling, 0
// for the server's default. fault.Limit when it is reached.
func (c *Conn) Login(user string, max int) error {
	if max == 0 {
		max = c.l.caps.Load().MaxPerUser
	}
	t := &c.l.conns
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.done || c.in {
		return fault.Text(fault.Canceled, "the connection is closed or logged in already")
	}
	if over(t.byUser[user], max) {
		return fault.Text(fault.Limit, fmt.Sprintf("you have your maximum of %d sessions; close one first", max))
	}
	t.byUser[user]++
	c.user, c.in = user, true
	t.half--
	if n := t.byAddr[c.key]; n != nil {
		n.half--
	}
	return nil
}

// Logout takes Login back: the connection counts as not logged in again (REIN).
// A nil Conn counts nothing.
func (c *Conn) Logout() {
	if c == nil {
		return
	}
	t := &c.l.conns
	t.mu.Lock()
	defer t.mu.Unlock()
	c.logout(t)
}

func (c *Conn) logout(t *conns) {
	if !c.in {
		return
	}
	if t.byUser[c.user]--; t.byUser[c.user] <= 0 {
		delete(t.byUser, c.user)
	}
	c.user, c.in = "", false
	t.half++
	if n := t.byAddr[c.key]; n != nil {
		n.half++
	}
}

// Release ends the counting. It may be called more than once.
func (c *Conn) Release() {
	t := &c.l.conns
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.done {
		return
	}
	c.logout(t)
	c.done = true
	t.total--
	t.half--
	n := t.byAddr[c.key]
	n.all--
	n.half--
	if n.all == 0 {
		delete(t.byAddr, c.key)
	}
}

// Counts is how many connections there are now.
type Counts struct {
	Total, HalfOpen  int
	Addresses, Users int // with at least one connection, one log-in
}

// Counts returns the present numbers.
func (l *Limits) Counts() Counts {
	c := &l.conns
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{Total: c.total, HalfOpen: c.half, Addresses: len(c.byAddr), Users: len(c.byUser)}
}
