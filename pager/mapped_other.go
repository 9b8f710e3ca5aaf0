//go:build !linux

package pager

import "errors"

// Mapped tells how much of the read-only view is mapped, where the system says so: here it does not.
func (p *Pager) Mapped() (bytes, huge uint64, err error) { return 0, 0, errors.ErrUnsupported }
