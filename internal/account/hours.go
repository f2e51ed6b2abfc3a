package account

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

var dayNames = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// String writes the window as ParseHours reads it: "mon,tue 08:00-18:00", or
// "08:00-18:00" for every day.
func (h Hours) String() string {
	text := h.From + "-" + h.Until
	if len(h.Days) == 0 {
		return text
	}
	var days []string
	for _, d := range h.Days {
		if d >= time.Sunday && d <= time.Saturday {
			days = append(days, dayNames[d])
		}
	}
	return strings.Join(days, ",") + " " + text
}

// ParseHours reads "mon-fri 08:00-18:00", "sat,sun 10:00-12:00" or "22:00-06:00"
// (every day, past midnight). Ranges of days may go over the weekend.
func ParseHours(s string) (Hours, error) {
	fields := strings.Fields(strings.ToLower(s))
	var h Hours
	if len(fields) == 0 || len(fields) > 2 {
		return h, fmt.Errorf("%q is not a window of hours; write it like %q or %q", s, "mon-fri 08:00-18:00", "08:00-18:00")
	}
	if len(fields) == 2 {
		days, err := parseDays(fields[0])
		if err != nil {
			return h, err
		}
		h.Days = days
	}
	from, until, ok := strings.Cut(fields[len(fields)-1], "-")
	if !ok {
		return h, fmt.Errorf("%q is not FROM-UNTIL, such as 08:00-18:00", fields[len(fields)-1])
	}
	for _, t := range []string{from, until} {
		if _, err := clock(t); err != nil {
			return h, err
		}
	}
	h.From, h.Until = from, until
	return h, nil
}

func parseDays(s string) ([]time.Weekday, error) {
	var days []time.Weekday
	add := func(d time.Weekday) {
		if !slices.Contains(days, d) {
			days = append(days, d)
		}
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, span := strings.Cut(part, "-")
		a, err := parseDay(first)
		if err != nil {
			return nil, err
		}
		b := a
		if span {
			if b, err = parseDay(last); err != nil {
				return nil, err
			}
		}
		for d := a; ; d = (d + 1) % 7 {
			add(d)
			if d == b {
				break
			}
		}
	}
	slices.Sort(days)
	return days, nil
}

func parseDay(s string) (time.Weekday, error) {
	if len(s) >= 3 {
		for i := range dayNames {
			if d := time.Weekday(i); strings.HasPrefix(strings.ToLower(d.String()), s) {
				return d, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not a day; write sun, mon, tue, wed, thu, fri or sat", s)
}
