package engine

import "fmt"

// Renew lets a replica be reached anew from the next call on, because what it takes to reach it has changed, and gives it a turn soon. What
// is under way goes on as it began.
func (e *Engine) Renew(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.find(name)
	if p == nil {
		return fmt.Errorf("renew replica %s: %w", name, ErrNotFound)
	}
	p.at.renew()
	e.change++
	p.nudge()
	return nil
}
