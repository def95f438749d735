package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
)

const (
	mapMagic    = "HWMAP\x00\x00\x01" // the last byte is the version
	mapHeader   = 24
	pageWords   = 512 // words in one page of the persisted form
	pageBlocks  = pageWords * 64
	rawPage     = 0 // kinds of pages
	runsPage    = 1
	maxRunsPage = pageWords * 8 // a page of runs is smaller than this, else it is raw
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// MarshalBinary is the persisted form of the map; the package document has its
// layout. Blocks set while it runs may or may not be in it.
func (m *Map) MarshalBinary() ([]byte, error) {
	out := append(make([]byte, 0, 256), mapMagic...)
	out = binary.LittleEndian.AppendUint64(out, uint64(m.blocks))
	out = binary.LittleEndian.AppendUint64(out, 0) // pages, filled in below
	var page Map
	copied := make([]uint64, pageWords)
	pages := uint64(0)
	for first := 0; first < len(m.words); first += pageWords {
		source := m.words[first:min(first+pageWords, len(m.words))]
		any := uint64(0)
		for i := range source {
			copied[i] = atomic.LoadUint64(&source[i])
			any |= copied[i]
		}
		if any == 0 {
			continue
		}
		page = Map{words: copied[:len(source)], blocks: int64(len(source)) * 64}
		out = appendPage(out, uint64(first/pageWords), &page)
		pages++
	}
	binary.LittleEndian.PutUint64(out[16:], pages)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli)), nil
}

// appendPage writes one page in the smaller of its two forms.
func appendPage(out []byte, number uint64, page *Map) []byte {
	out = binary.LittleEndian.AppendUint32(out, uint32(number))
	start := len(out)
	out = append(out, runsPage, 0, 0)
	end := int64(0)
	for run := range page.Runs(0) {
		out = binary.AppendUvarint(out, uint64(run.Start-end))
		out = binary.AppendUvarint(out, uint64(run.Count))
		end = run.Start + run.Count
		if len(out)-start-3 >= len(page.words)*8 {
			break
		}
	}
	if length := len(out) - start - 3; length < len(page.words)*8 {
		binary.LittleEndian.PutUint16(out[start+1:], uint16(length))
		return out
	}
	out = append(out[:start], rawPage)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(page.words)*8))
	for _, w := range page.words {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return out
}

// UnmarshalBinary replaces the content of m by a persisted map of as many blocks.
// On error m is unchanged.
func (m *Map) UnmarshalBinary(data []byte) error {
	read, err := UnmarshalMap(data, m.blocks)
	if err != nil {
		return err
	}
	if read.blocks != m.blocks {
		return homeward.Errorf("read map", homeward.Invalid, "", "use the map of this disk",
			"a map of %d blocks, expected are %d", read.blocks, m.blocks)
	}
	for i, w := range read.words {
		atomic.StoreUint64(&m.words[i], w)
	}
	return nil
}

// UnmarshalMap reads what MarshalBinary wrote. Corrupt when it is torn or flipped
// anywhere, or has more than maxBlocks blocks: memory is only taken for as many.
func UnmarshalMap(data []byte, maxBlocks int64) (*Map, error) {
	m, err := parseMap(data, maxBlocks)
	if err != nil {
		return nil, homeward.Errorf("read map", homeward.Corrupt, "",
			"treat every block of the disk as possibly different", "%w", err)
	}
	return m, nil
}

func parseMap(data []byte, maxBlocks int64) (*Map, error) {
	if len(data) < mapHeader+4 || string(data[:7]) != mapMagic[:7] {
		return nil, fmt.Errorf("not a map")
	}
	if data[7] != mapMagic[7] {
		return nil, fmt.Errorf("a map of version %d, which this build does not know", data[7])
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("its checksum is wrong")
	}
	blocks, pages := binary.LittleEndian.Uint64(body[8:]), binary.LittleEndian.Uint64(body[16:])
	if blocks > uint64(max(maxBlocks, 0)) {
		return nil, fmt.Errorf("a map of %d blocks, expected are at most %d", blocks, maxBlocks)
	}
	m := NewMap(int64(blocks))
	previous := int64(-1)
	body = body[mapHeader:]
	for ; pages > 0; pages-- {
		var err error
		if previous, body, err = m.parsePage(previous, body); err != nil {
			return nil, err
		}
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("%d bytes follow its last page", len(body))
	}
	return m, nil
}

// parsePage reads the page at the beginning of data, whose number must be larger
// than the previous one's, and returns its number and what follows it.
func (m *Map) parsePage(previous int64, data []byte) (int64, []byte, error) {
	bad := func(what string) (int64, []byte, error) {
		return 0, nil, fmt.Errorf("page after page %d: %s", previous, what)
	}
	if len(data) < 7 {
		return bad("it is cut off")
	}
	number, kind := int64(binary.LittleEndian.Uint32(data)), data[4]
	length := int(binary.LittleEndian.Uint16(data[5:]))
	if data = data[7:]; length > len(data) {
		return bad("it is cut off")
	}
	if number <= previous || number*pageWords >= int64(len(m.words)) {
		return bad("its number is wrong")
	}
	first := number * pageBlocks
	words := m.words[number*pageWords : min((number+1)*pageWords, int64(len(m.words)))]
	content, rest := data[:length], data[length:]
	switch {
	case kind == runsPage && length < maxRunsPage:
		if !m.parseRuns(first, min(first+pageBlocks, m.blocks), content) {
			return bad("its runs are wrong")
		}
	case kind == rawPage && length == len(words)*8:
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(content[i*8:])
		}
		if tail := m.blocks - first - int64(len(words)-1)*64; tail < 64 && bits.Len64(words[len(words)-1]) > int(tail) {
			return bad("it has blocks beyond the disk")
		}
	default:
		return bad("its kind or length is wrong")
	}
	return number, rest, nil
}

// parseRuns sets the runs of a page that begins at block at and ends before end.
func (m *Map) parseRuns(at, end int64, content []byte) bool {
	for len(content) > 0 {
		skip, n := binary.Uvarint(content)
		if n <= 0 {
			return false
		}
		count, k := binary.Uvarint(content[n:])
		left := uint64(end - at)
		if k <= 0 || count == 0 || skip > left || count > left-skip {
			return false
		}
		m.Set(at+int64(skip), int64(count))
		at += int64(skip + count)
		content = content[n+k:]
	}
	return true
}
