package keys

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/tyler-smith/go-bip39/wordlists"
)

// The recovery code is 256 random bits, written as 24 English words of BIP-39:
// eleven bits a word, the last eight bits being the first byte of the SHA-256 of
// the rest. Unlike a wallet's seed the bits are used as they are, without a
// passphrase or PBKDF2.
const (
	wordCount   = 24
	bitsPerWord = 11
	maxWords    = 1 << 10 // bytes of text that ParseWords looks at
)

// Words returns the 24 words of a recovery code, joined by single spaces.
func Words(code [32]byte) string {
	sum := sha256.Sum256(code[:])
	stream := append(code[:len(code):len(code)], sum[0])
	words := make([]string, wordCount)
	for i := range words {
		n := 0
		for bit := i * bitsPerWord; bit < (i+1)*bitsPerWord; bit++ {
			n = n<<1 | int(stream[bit/8]>>(7-bit%8))&1
		}
		words[i] = wordlists.English[n]
	}
	return strings.Join(words, " ")
}

// ParseWords is the inverse of Words. Case and the amount of white space do not
// matter. The error wraps ErrWords and names the place of a bad word, never the word.
func ParseWords(text string) ([32]byte, error) {
	var code [32]byte
	if len(text) > maxWords {
		return code, fmt.Errorf("%w: the text is too long", ErrWords)
	}
	words := strings.Fields(strings.ToLower(text))
	if len(words) != wordCount {
		return code, fmt.Errorf("%w: %d words instead of %d", ErrWords, len(words), wordCount)
	}
	var stream [33]byte
	for i, w := range words {
		n, ok := slices.BinarySearch(wordlists.English, w)
		if !ok {
			return code, fmt.Errorf("%w: word %d is not in the list", ErrWords, i+1)
		}
		for j := range bitsPerWord {
			bit := i*bitsPerWord + j
			stream[bit/8] |= byte(n>>(bitsPerWord-1-j)&1) << (7 - bit%8)
		}
	}
	copy(code[:], stream[:])
	if sum := sha256.Sum256(code[:]); sum[0] != stream[32] {
		return [32]byte{}, fmt.Errorf("%w: the words do not fit together; one may be wrong or out of place", ErrWords)
	}
	return code, nil
}

// CodeWords returns n words of the list for the first 11 n bits of b, joined by dashes: for a code that a person types once, or compares.
func CodeWords(b []byte, n int) string {
	words := make([]string, n)
	for i := range words {
		w := 0
		for bit := i * bitsPerWord; bit < (i+1)*bitsPerWord; bit++ {
			w = w<<1 | int(b[bit/8]>>(7-bit%8))&1
		}
		words[i] = wordlists.English[w]
	}
	return strings.Join(words, "-")
}

// ParseCode returns a code of n words as CodeWords writes it. Case does not matter, blanks do as well as dashes, and the first four letters of a word suffice: no two
// words have them in common. The error wraps ErrWords and names the place of a bad word, never the word.
func ParseCode(text string, n int) (string, error) {
	if len(text) > maxWords {
		return "", fmt.Errorf("%w: the text is too long", ErrWords)
	}
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == '-' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(words) != n {
		return "", fmt.Errorf("%w: %d words instead of %d", ErrWords, len(words), n)
	}
	for i, w := range words {
		at, ok := slices.BinarySearch(wordlists.English, w)
		if !ok && (len(w) < 4 || at >= len(wordlists.English) || !strings.HasPrefix(wordlists.English[at], w)) {
			return "", fmt.Errorf("%w: word %d is not in the list", ErrWords, i+1)
		}
		words[i] = wordlists.English[at]
	}
	return strings.Join(words, "-"), nil
}
