package ftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// dialPassive asks for a passive port and connects to it.
func (c *Client) dialPassive(ctx context.Context) (net.Conn, error) {
	mode, target, err := c.passive(ctx)
	if err != nil {
		return nil, err
	}
	dctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	nc, err := c.opts.Dialer.DialContext(dctx, "tcp", target)
	if err != nil {
		return nil, fmt.Errorf("ftp: data connection to %s, which the server named by %s: %w", target, mode, err)
	}
	return nc, nil
}

// passive sends EPSV or PASV and returns where to connect.
func (c *Client) passive(ctx context.Context) (mode, target string, err error) {
	peer := addrPort(c.raw.RemoteAddr())
	host := c.host
	if peer.IsValid() {
		host = peer.Addr().String()
	}
	if c.opts.Data == DataEPSV || c.opts.Data == DataAuto && !c.noEPSV {
		r, err := c.want(ctx, 2, "EPSV")
		if err == nil {
			port, err := ParseEPSVReply(r.Text)
			if err != nil || r.Code != 229 {
				return "", "", &ProtocolError{Line: clip(r.Text), Why: "it does not name a port as a reply to EPSV should"}
			}
			c.lastData = DataInfo{Mode: "EPSV", Announced: netip.AddrPortFrom(peer.Addr(), port)}
			return "EPSV", net.JoinHostPort(host, strconv.Itoa(int(port))), nil
		}
		var refused *Error
		if c.opts.Data == DataEPSV || !errors.As(err, &refused) || refused.Code < 500 || refused.Code == 530 {
			return "", "", err
		}
		c.noEPSV = true
	}
	r, err := c.want(ctx, 2, "PASV")
	if err != nil {
		return "", "", err
	}
	ap, err := ParsePASVReply(r.Text)
	if err != nil || r.Code != 227 || ap.Port() == 0 {
		return "", "", &ProtocolError{Line: clip(r.Text), Why: "it does not name an address as a reply to PASV should"}
	}
	c.lastData = DataInfo{Mode: "PASV", Announced: ap}
	if ip := ap.Addr(); ip != peer.Addr() && !c.opts.StrictPASV && (!ip.IsGlobalUnicast() || ip.IsPrivate()) {
		// A server behind a router that does not know its address.
		return "PASV", net.JoinHostPort(host, strconv.Itoa(int(ap.Port()))), nil
	}
	return "PASV", ap.String(), nil
}

// listen opens the port for an active data connection and announces it.
func (c *Client) listen(ctx context.Context) (net.Listener, error) {
	at := c.opts.ActiveListen
	if !at.Addr().IsValid() || at.Addr().IsUnspecified() {
		local := addrPort(c.raw.LocalAddr())
		if !local.IsValid() {
			return nil, fmt.Errorf("ftp: active data connections need ClientOptions.ActiveListen, because %v is not a TCP address", c.raw.LocalAddr())
		}
		at = netip.AddrPortFrom(local.Addr(), at.Port())
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("ftp: await the server's data connection on %s: %w", at, err)
	}
	said := addrPort(ln.Addr())
	if a := c.opts.ActiveAnnounce; a.IsValid() {
		said = netip.AddrPortFrom(a, said.Port())
	}
	mode, line := "EPRT", "EPRT "+FormatEPRT(said)
	if c.opts.Data == DataPORT {
		if !said.Addr().Unmap().Is4() {
			ln.Close()
			return nil, fmt.Errorf("ftp: PORT cannot carry the IPv6 address %s; use EPRT", said.Addr())
		}
		mode, line = "PORT", "PORT "+FormatPort(said)
	}
	c.lastData = DataInfo{Mode: mode, Announced: said}
	if _, err := c.want(ctx, 2, line); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// accept waits for the server's data connection and turns others away. A
// final reply that comes instead ends the wait.
func (t *exchange) accept(ln net.Listener) (net.Conn, error) {
	peer := addrPort(t.c.raw.RemoteAddr()).Addr()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(t.c.opts.Timeout))
	stop := context.AfterFunc(t.ctx, func() { ln.Close() })
	defer stop()
	got := make(chan struct{})
	defer close(got)
	go func() {
		select {
		case <-got:
		case <-t.final.done:
			if t.final.err != nil || t.final.r.Code >= 400 {
				ln.Close()
			}
		}
	}()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return nil, fmt.Errorf("ftp: the server's data connection did not come to %s: %w", ln.Addr(), err)
		}
		if !peer.IsValid() || addrPort(nc.RemoteAddr()).Addr() == peer {
			return nc, nil
		}
		nc.Close()
	}
}
