package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// The chart has a row a case and a mark a server: its CPU divided by that of
// the best peer, on a logarithmic axis, so that left of the line is better.
const (
	left, rowHeight, width = 150, 22, 640
	axisLow, axisHigh      = 1.0 / 8, 16.0
)

var colours = map[string]string{
	ours: "#0b6e4f", "vsftpd": "#c0392b", "proftpd": "#8e44ad", "pure-ftpd": "#d68910",
	"pyftpdlib": "#2471a3", "sftpgo": "#7b7d7d", "openssh": "#1b2631", "ftpserverlib": "#a04000",
}

func position(ratio float64) float64 {
	r := math.Log(min(max(ratio, axisLow), axisHigh))
	return left + width*(r-math.Log(axisLow))/(math.Log(axisHigh)-math.Log(axisLow))
}

func (x *runs) chart(w io.Writer) {
	var cases []string
	for _, c := range x.order {
		key, _ := metric(c)
		if len(x.values(c, ours, key)) > 0 && x.best(c, key, false) != "" {
			cases = append(cases, c)
		}
	}
	height := 90 + rowHeight*len(cases)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", left+width+30, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#ffffff"/><text x="%d" y="18" font-size="14">CPU (idle: memory) as a multiple of the best peer's; left is better</text>`+"\n", left)
	x.legend(w)
	top := 52
	for _, tick := range []float64{0.125, 0.25, 0.5, 1, 2, 4, 8, 16} {
		p, colour := position(tick), "#dddddd"
		if tick == 1 {
			colour = "#555555"
		}
		fmt.Fprintf(w, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle" fill="#555555">%g</text>`+"\n", p, top, p, height-22, colour, p, height-8, tick)
	}
	for i, c := range cases {
		x.row(w, c, top+rowHeight*i+rowHeight/2)
	}
	fmt.Fprintln(w, "</svg>")
}

func (x *runs) row(w io.Writer, c string, y int) {
	key, _ := metric(c)
	best := x.best(c, key, false)
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+4, html.EscapeString(c))
	mark := func(s string) {
		r, _, _ := x.ratio(c, s, best, key)
		if math.IsNaN(r) || yardstick(s) {
			return
		}
		shape := fmt.Sprintf(`<circle cx="%.1f" cy="%d" r="4.5" fill="%s" fill-opacity="0.75">`, position(r), y, colour(s))
		end := "</circle>"
		if s == ours {
			shape = fmt.Sprintf(`<rect x="%.1f" y="%d" width="12" height="12" fill="%s">`, position(r)-6, y-6, colour(s))
			end = "</rect>"
		}
		fmt.Fprintf(w, "%s<title>%s %s: %s x %s</title>%s\n", shape, html.EscapeString(c), html.EscapeString(s), num(r), html.EscapeString(best), end)
	}
	for _, s := range x.servers(c) {
		if s != ours {
			mark(s)
		}
	}
	mark(ours) // on top
}

func colour(server string) string {
	if c := colours[server]; c != "" {
		return c
	}
	return "#999999"
}

// legend names the servers that appear.
func (x *runs) legend(w io.Writer) {
	seen := map[string]bool{}
	at := left
	for _, c := range x.order {
		for _, s := range x.servers(c) {
			if seen[s] || yardstick(s) {
				continue
			}
			seen[s] = true
			fmt.Fprintf(w, `<rect x="%d" y="28" width="10" height="10" fill="%s"/><text x="%d" y="37">%s</text>`+"\n", at, colour(s), at+14, html.EscapeString(s))
			at += 26 + 7*len(s)
		}
	}
}
