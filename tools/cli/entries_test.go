package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGetWritesTheValueAndNothingElse(t *testing.T) {
	path := newMap(t, map[string]string{"k": "v\x00\xff", "": "of the empty key", "empty": ""})
	rows := []struct {
		name string
		args []string
		want result
	}{
		{"bytes as they are", []string{"k"}, result{0, "v\x00\xff", ""}},
		{"empty key", []string{""}, result{0, "of the empty key", ""}},
		{"empty value", []string{"empty"}, result{0, "", ""}},
		{"hexadecimal", []string{"--hex", "6b"}, result{0, "v\x00\xff", ""}},
		{"base64", []string{"--base64", "aw=="}, result{0, "v\x00\xff", ""}},
		{"missing", []string{"x"}, result{1, "", "mapfile: " + path + ": key \"x\": key not found\n"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, call(t, append([]string{"get", path}, row.args...)...))
		})
	}
}

func TestPut(t *testing.T) {
	path := newMap(t, map[string]string{"k": "old"})
	require.Equal(t, result{}, call(t, "put", path, "k", "new"))
	require.Equal(t, result{}, call(t, "put", "--hex", path, "00ff", "00ff"))
	require.Equal(t, result{}, callWith(t, "from\nstdin\n", "put", path, "s", "-"))
	require.Equal(t, result{}, callWith(t, "", "put", path, "nothing", "-"))
	require.Equal(t, result{}, call(t, "put", path, "--", "-k", "dashed"))
	require.Equal(t, map[string]string{
		"k": "new", "\x00\xff": "00ff", "s": "from\nstdin\n", "nothing": "", "-k": "dashed",
	}, contents(t, path))
}

func TestPutCreatesOnlyWhenAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new map")
	got := call(t, "put", path, "k", "v")
	require.Equal(t, 2, got.code)
	require.Contains(t, got.err, "; run: mapfile put --create '"+path+"' KEY VALUE\n")
	require.NoFileExists(t, path)

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.Equal(t, 3, call(t, "put", path, "k", "v").code, "an empty file is no map yet")
	require.NoError(t, os.Remove(path))

	require.Equal(t, result{}, call(t, "put", "--create", path, "k", "v"))
	require.Equal(t, result{}, call(t, "put", "--create", path, "k2", "v2"))
	require.Equal(t, map[string]string{"k": "v", "k2": "v2"}, contents(t, path))
}

func TestPutTooLargeLeavesNoNewMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m")
	key := strings.Repeat("k", 65_536)
	got := call(t, "put", "--create", path, key, "v")
	require.Equal(t, result{2, "", "mapfile: " + path + ": key \"" + key[:60] + "\"… (65536 bytes): key too large\n"}, got)
	require.NoFileExists(t, path)

	path = newMap(t, nil)
	require.Equal(t, 2, call(t, "put", path, key, "v").code)
	require.Empty(t, contents(t, path))
}

func TestDelete(t *testing.T) {
	path := newMap(t, map[string]string{"a": "1", "b": "2"})
	require.Equal(t, result{}, call(t, "delete", path, "a"))
	require.Equal(t, result{}, call(t, "delete", path, "--base64", "Yg=="))
	require.Equal(t, result{1, "", "mapfile: " + path + ": key \"a\": key not found\n"}, call(t, "delete", path, "a"))
	require.Empty(t, contents(t, path))
}

func TestBadKeyForm(t *testing.T) {
	path := newMap(t, nil)
	for _, args := range [][]string{
		{"get", path, "--hex", "0"},
		{"put", path, "--base64", "=", "v"},
		{"delete", path, "--hex", "xy"},
		{"get", path, "--hex", "--base64", "00"},
	} {
		t.Run(strings.Join(args[:1], " "), func(t *testing.T) {
			require.Equal(t, 2, call(t, args...).code)
		})
	}
}
