package server

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// notify tells the service manager how we are (sd_notify(3)); it does nothing
// without one. A message that cannot be sent is lost: the service manager is
// gone then, and nobody else wants to know.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if name[0] == '@' { // abstract
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte(state))
}

// watchdog pings the service manager while the parts that everything hangs on
// answer: the locks of the server and of the sessions. A server that hangs is
// restarted (WatchdogSec in the unit).
func (s *Server) watchdog(ctx context.Context) {
	every := watchdogEvery()
	if every == 0 {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.Status() // takes the locks; hangs if they do
			notify("WATCHDOG=1")
		}
	}
}

// watchdogEvery is half the time the service manager waits, 0 when it does not.
func watchdogEvery() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us < 2000 {
		return 0
	}
	return time.Duration(us) * time.Microsecond / 2
}
