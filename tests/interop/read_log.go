// Reads a Keywatt log with the Go checksum database's implementation of notes and tiled logs, which is none of ours:
// golang.org/x/mod/sumdb/note and tlog. Proves every entry, and every older size that is named.
//
//	read_log FOLDER VERIFIER_KEY [OLD_SIZE OLD_ROOT]...
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type folder string

func (folder) Height() int                                   { return 8 }
func (folder) SaveTiles(tiles []tlog.Tile, data [][]byte)     {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		// The document's path is that of the checksum database without the height.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil && tile.W < 256 {
			full := strings.Replace(path, fmt.Sprintf(".p/%d", tile.W), "", 1)
			data, err = os.ReadFile(filepath.Join(string(f), full))
			if err == nil {
				data = data[:tile.W*32]
			}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func entries(f folder, size int64) [][]byte {
	var all [][]byte
	for tile := int64(0); int64(len(all)) < size; tile++ {
		width := size - tile*256
		if width > 256 {
			width = 256
		}
		path := strings.Replace(tlog.Tile{H: 8, L: 0, N: tile, W: int(width)}.Path(), "tile/8/0/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		check(err)
		for len(data) > 0 {
			length := int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:2+length])
			data = data[2+length:]
		}
	}
	return all
}

func main() {
	f := folder(os.Args[1])
	verifier, err := note.NewVerifier(os.Args[2])
	check(err)
	octets, err := os.ReadFile(filepath.Join(string(f), "checkpoint"))
	check(err)
	signed, err := note.Open(octets, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	// Authenticates every tile that it reads against the signed root.
	reader := tlog.TileHashReader(tree, f)
	all := entries(f, size)
	for index, entry := range all {
		proof, err := tlog.ProveRecord(size, int64(index), reader)
		check(err)
		check(tlog.CheckRecord(proof, size, tree.Hash, int64(index), tlog.RecordHash(entry)))
	}
	for place := 3; place+1 < len(os.Args); place += 2 {
		old, err := strconv.ParseInt(os.Args[place], 10, 64)
		check(err)
		var oldRoot tlog.Hash
		decoded, err := base64.StdEncoding.DecodeString(os.Args[place+1])
		check(err)
		copy(oldRoot[:], decoded)
		proof, err := tlog.ProveTree(size, old, reader)
		check(err)
		check(tlog.CheckTree(proof, size, tree.Hash, old, oldRoot))
	}
	fmt.Printf("%s: %d entries, %d older trees\n", lines[0], len(all), (len(os.Args)-3)/2)
}
