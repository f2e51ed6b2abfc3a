package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// testSize is more than a path can hold in one packet and less than anybody minds.
const testSize = 256 << 10

// write stores a small file, reads it back and removes it.
func (c *Client) write(ctx context.Context, w way) {
	cl, _, _ := c.connect(ctx, w, c.goodMode(w), false)
	if cl == nil {
		return
	}
	defer cl.Close()
	id := make([]byte, 6)
	rand.Read(id)
	name := "portreeve-doctor-" + hex.EncodeToString(id) + ".tmp"
	c.say("storing and reading a test file")
	data := bytes.Repeat([]byte("0123456789abcdef"), testSize/16)
	begin := time.Now()
	if _, err := cl.Store(ctx, name, bytes.NewReader(data), 0); err != nil {
		c.rep.Findings = append(c.rep.Findings, c.wrote("storing", err, time.Since(begin)))
		return
	}
	defer func() {
		cl.Remove(ctx, name)
		cl.Quit(ctx)
	}()
	begin = time.Now()
	r, err := cl.Retrieve(ctx, name, 0)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(io.LimitReader(r, testSize+1))
		r.Close()
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("other bytes came back than were stored")
		}
	}
	if err != nil {
		c.rep.Findings = append(c.rep.Findings, c.wrote("reading", err, time.Since(begin)))
	}
}

func (c *Client) wrote(what string, err error, took time.Duration) Finding {
	text := err.Error()
	if isTimeout(err) || strings.Contains(text, "no reply from") || strings.Contains(text, "timeout") {
		return finding("MTU_BLACKHOLE", Error, c.fill(), "listings work; %s a file of %d KiB stops after %s: full-size packets do not get through", what, testSize>>10, took.Round(time.Second))
	}
	return finding("WRITE_FAILED", Warning, c.fill(), "%s a test file: %v", what, err)
}

// goodMode is a mode that works on this way.
func (c *Client) goodMode(w way) ftp.DataMode {
	for _, m := range []ftp.DataMode{ftp.DataEPSV, ftp.DataPASV, ftp.DataEPRT, ftp.DataPORT} {
		name := modeNames[m]
		for _, p := range c.rep.Probes {
			if p.Security == w.sec && p.Mode == name && p.Outcome == OK && p.Family == w.family() {
				return m
			}
		}
	}
	return ftp.DataEPSV
}
