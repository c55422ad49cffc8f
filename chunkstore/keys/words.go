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
