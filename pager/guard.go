package pager

import (
	"fmt"
	"runtime"
	"syscall"
)

// A read or store that the kernel cannot serve (a bad sector, a full disk under
// a hole, a file cut short) arrives as SIGBUS. Under debug.SetPanicOnFault the Go
// runtime turns it into a panic of the goroutine that did it, with the address.
// The guard of every public call opens it like this, once per operation and
// inline, because recover works only in the deferred function itself:
//
//	old := debug.SetPanicOnFault(true)
//	defer func() {
//		debug.SetPanicOnFault(old)
//		if r := recover(); r != nil { err = p.Fault(r) }
//	}()

// addrError is what the runtime's fault panics offer beside runtime.Error.
type addrError interface {
	runtime.Error
	Addr() uintptr
}

// Fault makes an error of a recovered panic if it is a fault at an address of
// this pager's mappings. Any other panic goes on as it was.
func (p *Pager) Fault(r any) error {
	if f, ok := r.(addrError); ok {
		if page, ok := p.owns(f.Addr()); ok {
			return &FaultError{Page: page}
		}
	}
	panic(r)
}

// IsFault reports whether a recovered panic is a memory fault at all, ours or not.
func IsFault(r any) bool {
	_, ok := r.(addrError)
	return ok
}

// owns finds the page behind an address of one of the mappings.
func (p *Pager) owns(addr uintptr) (uint64, bool) {
	if v := p.view.Load(); v != nil {
		if n, ok := v.owns(addr); ok {
			return n, true
		}
	}
	p.oldMu.Lock()
	defer p.oldMu.Unlock()
	for _, o := range p.old {
		if n, ok := o.view.owns(addr); ok {
			return n, true
		}
	}
	return 0, false
}

func (v *View) owns(addr uintptr) (uint64, bool) {
	for _, base := range []uintptr{uintptr(v.r), uintptr(v.w)} {
		if base != 0 && addr >= base && uint64(addr-base) < v.size {
			return uint64(addr-base) / PageSize, true
		}
	}
	return 0, false
}

// FaultError is a fault in the mapping: the disk could not give or take the page. It is EIO, as a read or write by system call would be.
type FaultError struct {
	Page uint64 // page number
}

// Error names the page.
func (e *FaultError) Error() string {
	return fmt.Sprintf("mapfile: the system could not give page %d: I/O error, or the file was cut short, or this was a store to lent bytes, which can only be read", e.Page)
}

// Unwrap makes errors.Is find EIO.
func (e *FaultError) Unwrap() error { return syscall.EIO }
