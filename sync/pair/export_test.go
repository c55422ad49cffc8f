package pair

// PlansOf has plans be of so many new things from now on, and returns what puts that back.
func PlansOf(n int) (back func()) {
	was := mostNew
	mostNew = n
	return func() { mostNew = was }
}
