//go:build !linux

package ftp

// canPark says that sessions can be parked on this system.
const canPark = false

type parking struct{}

func (p *parking) close() {}

func (c *Conn) park() bool { return false }

func (c *Conn) unpark() {}
