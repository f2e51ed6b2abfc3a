package ftp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// PortRange is the simplest PassivePorts: a fresh listening socket from the
// range First to Last (both included) for each lease, chosen at random. It
// never uses a port outside the range. Safe for concurrent use.
type PortRange struct {
	First, Last uint16

	mu  sync.Mutex
	own map[uint16]bool
}

// Lease listens on a random free port of the range, on the address that the
// client reached. When every port is taken it waits up to two seconds for one
// and then returns ErrNoPort.
func (p *PortRange) Lease(ctx context.Context, c *Conn) (Lease, error) {
	if p.First == 0 || p.Last < p.First {
		return nil, fmt.Errorf("ftp: passive range %d-%d is empty", p.First, p.Last)
	}
	deadline := time.Now().Add(2 * time.Second)
	for {
		l, err := p.try(ctx, c.LocalAddr().Addr())
		if err == nil || !errors.Is(err, ErrNoPort) || time.Now().After(deadline) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *PortRange) try(ctx context.Context, host netip.Addr) (Lease, error) {
	n := int(p.Last) - int(p.First) + 1
	start := rand.IntN(n) // ChaCha8 seeded by the system: not predictable from outside
	for i := range n {
		port := p.First + uint16((start+i)%n)
		if !p.claim(port) {
			continue
		}
		lc := net.ListenConfig{KeepAlive: -1}
		ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(host, port).String())
		if err == nil {
			return &rangeLease{p: p, ln: ln.(*net.TCPListener), port: port}, nil
		}
		p.release(port)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, err
		}
	}
	return nil, ErrNoPort
}

func (p *PortRange) claim(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own[port] {
		return false
	}
	if p.own == nil {
		p.own = make(map[uint16]bool)
	}
	p.own[port] = true
	return true
}

func (p *PortRange) release(port uint16) {
	p.mu.Lock()
	delete(p.own, port)
	p.mu.Unlock()
}

type rangeLease struct {
	p    *PortRange
	ln   *net.TCPListener
	port uint16
	once sync.Once
}

func (l *rangeLease) Addr() netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, l.port) }

func (l *rangeLease) Accept(ctx context.Context) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { l.ln.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	nc, err := l.ln.Accept()
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nc, err
}

func (l *rangeLease) Release() {
	l.once.Do(func() {
		l.ln.Close()
		l.p.release(l.port)
	})
}
