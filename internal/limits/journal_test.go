package limits

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/internal/account"
)

// journal is a QuotaStore that keeps marks.
type journal struct {
	mu    sync.Mutex
	used  map[string]int64
	marks []string
}

func (j *journal) QuotaUsed(_ context.Context, user string) (int64, int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.used[user], 0, nil
}

func (j *journal) AddQuota(_ context.Context, user string, b, _ int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.marks, user) {
		panic("booked without a mark: a crash just before would not be noticed")
	}
	j.used[user] += b
	return nil
}

func (j *journal) MarkQuota(_ context.Context, user string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.marks, user) {
		j.marks = append(j.marks, user)
	}
	return nil
}

func (j *journal) ClearQuota(_ context.Context, user string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.marks = slices.DeleteFunc(j.marks, func(s string) bool { return s == user })
	return nil
}

func (j *journal) left() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.marks)
}

func TestQuotaJournal(t *testing.T) {
	j := &journal{used: map[string]int64{}}
	l := New(Config{Quota: j})
	ctx := t.Context()
	s := l.Quota("ann", account.Quota{Bytes: 1 << 20})
	if n := j.left(); len(n) != 0 {
		t.Errorf("marked before anything changes: %v", n)
	}
	c := NewCharge(s, nil)
	if _, err := c.Take(ctx, 10, 10); err != nil {
		t.Fatal(err)
	}
	if n := j.left(); !slices.Equal(n, []string{"ann"}) {
		t.Fatalf("an upload runs and the marks are %v", n)
	}
	if err := l.FlushQuota(ctx); err != nil || len(j.left()) != 1 {
		t.Errorf("a flush during an upload: %v, marks %v", err, j.left())
	}
	if err := c.Settle(ctx, 10, 1); err != nil || len(j.left()) != 1 {
		t.Errorf("settled while the session lives: %v, marks %v", err, j.left())
	}
	if err := s.Release(ctx); err != nil || len(j.left()) != 0 || j.used["ann"] != 10 {
		t.Errorf("at the end: %v, marks %v, used %d", err, j.left(), j.used["ann"])
	}
	// The next session marks again, and an orderly stop clears.
	s = l.Quota("ann", account.Quota{Bytes: 1 << 20})
	c = NewCharge(s, nil)
	if err := c.Settle(ctx, -10, -1); err != nil || len(j.left()) != 1 {
		t.Errorf("%v, marks %v", err, j.left())
	}
	if err := l.FlushQuota(ctx); err != nil || len(j.left()) != 0 {
		t.Errorf("an orderly stop: %v, marks %v", err, j.left())
	}
}
