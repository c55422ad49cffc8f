package remote

import (
	"net/http"
	"strconv"
	"time"
)

// RetryAfter returns how long a server asks to wait by the header of that name, which has seconds or a time (RFC 9110, 10.2.3); 0 if it does not.
func RetryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
