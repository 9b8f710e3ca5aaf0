package mapfile

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FaultRoles are what child processes of the fault tests can be.
var FaultRoles = map[string]func(out io.Writer, args []string) error{"sigbus": sigbus}

// busScenarios say how pages are taken away, until so many faults were recovered.
var busScenarios = map[string]func(m *busMap, faults int64) error{
	"cut under readers":    cutUnderReaders,
	"cut under writers":    cutUnderWriters,
	"unmapped":             unmapped,
	"holes on a full disk": holesOnAFullDisk,
}

// sigbus runs a scenario: its name, a directory, how many faults, a seed.
func sigbus(out io.Writer, args []string) error {
	faults, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	m := &busMap{path: filepath.Join(args[1], "a.map"), o: Options{Sync: SyncNever}, r: rand.New(rand.NewPCG(seed, 0))}
	begin := time.Now()
	if err := busScenarios[args[0]](m, faults); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "faults %d, told as cut %d, Puts refused %d, maps failed %d, operations %d, in %v\n", m.faults.Load(), m.cut.Load(), m.refused.Load(), m.failed, m.ops.Load(), time.Since(begin).Round(time.Millisecond))
	return err
}

// begin makes the map.
func (m *busMap) begin() error {
	if err := m.open(); err != nil {
		return err
	}
	return m.fill()
}

// length is that of the file.
func (m *busMap) length() int64 { return int64(m.db.s.P.Pages()) * pageSize }

// somewhere is a random page of the file behind the first few.
func (m *busMap) somewhere() int64 { return (1 + m.r.Int64N(m.length()/pageSize-1)) * pageSize }

// nap lets the others meet what was done.
func (m *busMap) nap() { time.Sleep(time.Duration(200+m.r.IntN(1500)) * time.Microsecond) }

// everyKind reports whether each kind of read has met a fault.
func (m *busMap) everyKind() bool {
	for kind := range m.kinds[1:] {
		if m.kinds[kind+1].Load() == 0 {
			return false
		}
	}
	return true
}

// cutUnderReaders cuts the file under four readers, and gives it its bytes back, page by page as it grows.
func cutUnderReaders(m *busMap, faults int64) error {
	if err := m.begin(); err != nil {
		return err
	}
	whole, err := os.ReadFile(m.path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = m.storm(0, func() error {
		for (m.faults.Load() < faults || !m.everyKind()) && m.wrong.Load() == nil {
			at := m.somewhere()
			if err := f.Truncate(at); err != nil {
				return err
			}
			m.nap()
			if _, err := f.WriteAt(whole[at:], at); err != nil {
				return err
			}
			m.nap()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if m.cut.Load() == 0 {
		return errors.New("no fault was told as ErrReplaced")
	}
	if err := m.db.Put(busName(0), busValue(0, 2)); err != nil {
		return fmt.Errorf("the file is whole, and the map goes on: %w", err)
	}
	m.keys[0].begun.Store(2)
	m.keys[0].acked.Store(2)
	if err := m.reopen(); err != nil {
		return err
	}
	return m.db.Close()
}

// cutUnderWriters cuts the file under two writers and two readers, again and again: the map fails, and the file, whole
// again, has what was acknowledged.
func cutUnderWriters(m *busMap, faults int64) error {
	if err := m.begin(); err != nil {
		return err
	}
	m.mayFail = true
	for m.faults.Load() < faults {
		var at int64
		var lost []byte
		upkeep := func() {}
		err := m.storm(2, func() (err error) {
			m.nap()
			upkeep, err = m.still(func() error { // what is cut off must be known to the byte
				at = m.somewhere()
				whole, err := os.ReadFile(m.path)
				if err != nil {
					return err
				}
				lost = whole[min(at, int64(len(whole))):]
				return os.Truncate(m.path, at)
			})
			time.Sleep(5 * time.Millisecond)
			return err
		})
		if err == nil {
			err = giveBack(m.path, at, lost)
		}
		upkeep() // not before: what it writes behind the cut would make the file longer again, with zeros that read as damage
		if err != nil {
			return err
		}
		if err := m.reopen(); err != nil {
			return err
		}
	}
	return m.db.Close()
}

// giveBack writes what was cut off behind the cut again.
func giveBack(path string, at int64, lost []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(lost, at)
	return errors.Join(err, f.Close())
}

// unmapped puts pages of an empty file in the place of the map's own, in one view or both, under two writers and two
// readers: what a bad sector does, at random moments, with all bytes of the file still there. It goes on until Puts
// have met faults both before they stored anything, which they survive, and behind, which fails the map.
func unmapped(m *busMap, faults int64) error {
	if err := m.begin(); err != nil {
		return err
	}
	empty, err := unix.MemfdCreate("empty", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(empty)
	m.mayFail = true
	for m.faults.Load() < faults || m.refused.Load() == 0 || m.failed == 0 {
		file, err := os.OpenFile(m.path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = m.storm(2, func() error {
			for range 40 {
				if err := m.unmap(empty, int(file.Fd())); err != nil {
					return err
				}
				if m.db.s.P.Failed() != nil {
					return nil
				}
			}
			return nil
		})
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if err := m.reopen(); err != nil {
			return err
		}
	}
	return m.db.Close()
}

// unmap takes some pages away and gives them back.
func (m *busMap) unmap(empty, file int) error {
	at := m.somewhere()
	if m.r.IntN(16) == 0 { // where records are stored next
		m.db.turn.Lock()
		position, _ := m.db.s.Tail.Position()
		m.db.turn.Unlock()
		at = int64(position) / pageSize * pageSize
	}
	v := m.db.s.P.View()
	n := min(int64(1+m.r.IntN(400))*pageSize, m.length()-at)
	read, write := m.r.IntN(3) > 0, m.r.IntN(2) == 0
	over := func(fd int, off int64) error {
		if read {
			if _, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(v.Bytes(uint64(at), 1))), uintptr(n), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
				return err
			}
		}
		if write {
			_, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(v.Writable(uint64(at), 1))), uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
			return err
		}
		return nil
	}
	if err := over(empty, 0); err != nil {
		return err
	}
	m.nap()
	return over(file, at)
}

// holesOnAFullDisk makes holes under the map on a file system of its own, and fills that up.
func holesOnAFullDisk(m *busMap, faults int64) error {
	dir := filepath.Dir(m.path)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		return fmt.Errorf("skip: no file system can be mounted here (%w)", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	if err := m.begin(); err != nil {
		return err
	}
	h := holes{m: m}
	var err error
	if h.file, err = os.OpenFile(m.path, os.O_RDWR, 0); err != nil {
		return err
	}
	defer h.file.Close()
	if h.ballast, err = os.Create(filepath.Join(dir, "ballast")); err != nil {
		return err
	}
	defer h.ballast.Close()
	if err := m.storm(0, func() error { return h.underReaders(faults) }); err != nil {
		return err
	}
	m.mayFail = true
	for range 10 {
		if err := m.storm(2, h.underWriters); err != nil {
			return err
		}
		if m.db.s.P.Failed() == nil {
			return errors.New("a store into a hole of a full disk failed nothing")
		}
		if err := h.ballast.Truncate(0); err != nil {
			return err
		}
		if err := m.reopen(); err != nil {
			return err
		}
	}
	return m.db.Close()
}

// holes makes holes.
type holes struct {
	m             *busMap
	file, ballast *os.File
}

// full fills the disk up.
func (h *holes) full() error {
	end, err := h.ballast.Seek(0, io.SeekEnd)
	for step := int64(1 << 20); err == nil && step >= pageSize; {
		if _, full := h.ballast.WriteAt(make([]byte, step), end); full != nil {
			step /= 2
			continue
		}
		end += step
	}
	return err
}

// underReaders punches pages that hold something: nobody can have them back, so a read of one is a fault and never zeros. Readers
// stand still while the bytes are put back.
func (h *holes) underReaders(faults int64) error {
	m := h.m
	for m.faults.Load() < faults && m.wrong.Load() == nil {
		at := m.somewhere()
		n := min(int64(1+m.r.IntN(200))*pageSize, m.length()-at)
		bytes := make([]byte, n)
		if _, err := h.file.ReadAt(bytes, at); err != nil {
			return err
		}
		m.pause.Lock()
		err := unix.Fallocate(int(h.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
		err = errors.Join(err, h.full())
		m.pause.Unlock()
		m.nap()
		m.pause.Lock()
		end, seek := h.ballast.Seek(0, io.SeekEnd)
		if err = errors.Join(err, seek, h.ballast.Truncate(end-n)); err == nil {
			_, err = h.file.WriteAt(bytes, at)
		}
		m.pause.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// underWriters punches the rest of the segment that is being written, which is empty, until a store into it has failed the map: one that begins the next segment
// instead does not.
func (h *holes) underWriters() (err error) {
	m := h.m
	for end := time.Now().Add(20 * time.Second); err == nil && m.db.s.P.Failed() == nil && time.Now().Before(end); {
		m.nap()
		var upkeep func()
		upkeep, err = m.still(func() error {
			position, g := m.db.s.Tail.Position()
			if g == nil { // nobody has written since the open
				return nil
			}
			from := (int64(position) + pageSize - 1) / pageSize * pageSize
			if from >= int64(g.End()) {
				return nil
			}
			err := unix.Fallocate(int(h.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, int64(g.End())-from)
			return errors.Join(err, h.full())
		})
		for once := time.Now().Add(500 * time.Millisecond); err == nil && m.db.s.P.Failed() == nil && time.Now().Before(once); {
			time.Sleep(time.Millisecond)
		}
		upkeep() // not before: it gives space back, and the disk would not be full
	}
	return err
}
