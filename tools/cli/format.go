package cli

import (
	"fmt"
	"strconv"
	"time"
)

type integer interface {
	~int | ~int64 | ~uint32 | ~uint64
}

// formatCount writes n, which is not negative, with a comma between thousands.
func formatCount[T integer](n T) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatBytes writes a number of bytes in the decimal unit that fits it.
func formatBytes[T integer | float64](n T) string {
	f := float64(n)
	for _, unit := range []string{"B", "kB", "MB"} {
		if f < 999.95 {
			return scaled(f, unit)
		}
		f /= 1000
	}
	return scaled(f, "GB")
}

func scaled(f float64, unit string) string {
	if unit == "B" {
		return fmt.Sprintf("%.0f B", f)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// formatRate writes how many bytes went by in a second, or "-" where no time
// did.
func formatRate[T integer](bytes T, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return formatBytes(float64(bytes)/d.Seconds()) + "/s"
}

// formatDuration writes d with three digits or so.
func formatDuration(d time.Duration) string {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}
