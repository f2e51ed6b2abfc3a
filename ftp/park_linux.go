package ftp

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// canPark says that sessions can be parked on this system.
const canPark = true

// parking holds the parked sessions of a server. It waits for their connections with an epoll descriptor of its own, which
// the Go scheduler's waits for in turn: no goroutine and no thread for each.
type parking struct {
	once sync.Once
	fd   int      // the epoll descriptor
	file *os.File // the same; asked for its descriptor it would become blocking
	fail error

	mu    sync.Mutex
	last  uint64
	over  bool             // closed
	cars  map[uint64]*Conn // by Conn.parked
	timer *time.Timer      // of the next sweep, while there are cars
	due   time.Time
}

// sweepEvery is the least time between two looks for sessions whose time without
// a command is over.
const sweepEvery = time.Second

func (p *parking) start() {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err == nil {
		err = syscall.SetNonblock(fd, true) // os.NewFile asks whether it is
	}
	if err != nil {
		p.fail = os.NewSyscallError("epoll_create1", err)
		return
	}
	p.fd, p.file = fd, os.NewFile(uintptr(fd), "parked sessions")
	rc, err := p.file.SyscallConn()
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // fails if the scheduler cannot wait for it
	}
	if p.fail = err; err == nil {
		go p.serve(rc)
	}
}

// serve wakes sessions whose clients have sent something, or are gone.
func (p *parking) serve(rc syscall.RawConn) {
	var events [64]syscall.EpollEvent
	for {
		n := 0
		err := rc.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && err != syscall.EINTR
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			p.wake(uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32, nil)
		}
	}
}

// add parks c and reports whether it could. After that c belongs to whoever wakes it.
func (p *parking) add(c *Conn) bool {
	sc, is := c.raw.(syscall.Conn)
	if !is { // tests, in whose time bubbles nothing may be started
		return false
	}
	if p.once.Do(p.start); p.fail != nil {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.last++
	id := p.last
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	if !p.control(rc, syscall.EPOLL_CTL_ADD, &ev) {
		return false
	}
	c.parked.Store(id)
	if p.cars == nil {
		p.cars = make(map[uint64]*Conn)
	}
	p.cars[id] = c
	if p.timer == nil {
		p.due = c.idleEnd
		p.timer = time.AfterFunc(time.Until(p.due), p.sweep)
	} else if c.idleEnd.Before(p.due) {
		p.due = c.idleEnd
		p.timer.Reset(time.Until(p.due))
	}
	return true
}

func (p *parking) control(rc syscall.RawConn, op int, ev *syscall.EpollEvent) bool {
	var bad error
	err := rc.Control(func(fd uintptr) { bad = syscall.EpollCtl(p.fd, op, int(fd), ev) })
	return err == nil && bad == nil
}

// wake lets the session with that number go on, unless somebody has done so.
func (p *parking) wake(id uint64, why error) {
	p.mu.Lock()
	c := p.cars[id]
	p.leave(id, c)
	p.mu.Unlock()
	if c != nil {
		go c.run(c.awake(why))
	}
}

// leave takes c out; mu is held.
func (p *parking) leave(id uint64, c *Conn) {
	if c == nil {
		return
	}
	delete(p.cars, id)
	c.parked.Store(0)
	if rc, err := c.raw.(syscall.Conn).SyscallConn(); err == nil && !p.over {
		p.control(rc, syscall.EPOLL_CTL_DEL, &syscall.EpollEvent{})
	}
	if len(p.cars) == 0 && p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// sweep wakes those whose time is over.
func (p *parking) sweep() {
	now := time.Now()
	next := now.Add(time.Hour)
	var expired []*Conn
	p.mu.Lock()
	for id, c := range p.cars {
		if c.idleEnd.After(now) {
			next = minTime(next, c.idleEnd)
			continue
		}
		expired = append(expired, c)
		p.leave(id, c)
	}
	if len(p.cars) > 0 {
		p.due = next
		if soon := now.Add(sweepEvery); p.due.Before(soon) {
			p.due = soon
		}
		p.timer.Reset(time.Until(p.due))
	}
	p.mu.Unlock()
	for _, c := range expired {
		go c.run(c.awake(os.ErrDeadlineExceeded))
	}
}

// close wakes everybody and ends the waiting; nobody is parked any more.
func (p *parking) close() {
	p.once.Do(func() { p.fail = os.ErrClosed }) // it never began
	p.mu.Lock()
	var left []*Conn
	for id, c := range p.cars {
		left = append(left, c)
		p.leave(id, c)
	}
	if !p.over && p.file != nil {
		p.file.Close() // its number must not be used again
	}
	p.over = true
	p.mu.Unlock()
	for _, c := range left {
		go c.run(c.awake(nil))
	}
}

// park hands the session over to the lot and reports whether it took it.
func (c *Conn) park() bool {
	c.rd.rest()
	lot, id, ctx := &c.srv.lot, &c.parked, c.ctx
	if !lot.add(c) {
		return false
	}
	// Whoever ended the session a moment ago found nobody to wake.
	if ctx.Err() != nil {
		lot.wake(id.Load(), nil)
	}
	return true
}

// unpark wakes the session if it is parked, so that it notices its end.
func (c *Conn) unpark() {
	if id := c.parked.Load(); id != 0 {
		c.srv.lot.wake(id, nil)
	}
}
