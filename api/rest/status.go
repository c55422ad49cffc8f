package rest

import (
	"net/http"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// statuses is by which status of HTTP each kind of error is told.
var statuses = map[sheafv1.Code]int{
	sheafv1.Code_CODE_UNSPECIFIED:  http.StatusInternalServerError,
	sheafv1.Code_CODE_USAGE:        http.StatusBadRequest,
	sheafv1.Code_CODE_NOT_FOUND:    http.StatusNotFound,
	sheafv1.Code_CODE_EXISTS:       http.StatusConflict,
	sheafv1.Code_CODE_WRONG_KIND:   http.StatusConflict,
	sheafv1.Code_CODE_NOT_EMPTY:    http.StatusConflict,
	sheafv1.Code_CODE_READ_ONLY:    http.StatusForbidden,
	sheafv1.Code_CODE_PERMISSION:   http.StatusForbidden,
	sheafv1.Code_CODE_TEMPORARY:    http.StatusServiceUnavailable,
	sheafv1.Code_CODE_DECISION:     http.StatusConflict,
	sheafv1.Code_CODE_LIMIT:        http.StatusInsufficientStorage,
	sheafv1.Code_CODE_NO_DRIVE:     http.StatusConflict,
	sheafv1.Code_CODE_LOCKED:       http.StatusServiceUnavailable,
	sheafv1.Code_CODE_NEED_SECRET:  http.StatusLocked,
	sheafv1.Code_CODE_WRONG_SECRET: http.StatusForbidden,
	sheafv1.Code_CODE_INTEGRITY:    http.StatusUnprocessableEntity,
	sheafv1.Code_CODE_NO_DAEMON:    http.StatusServiceUnavailable,
	sheafv1.Code_CODE_CANCELED:     http.StatusServiceUnavailable,
	sheafv1.Code_CODE_UNSUPPORTED:  http.StatusNotImplemented,
	sheafv1.Code_CODE_PARTIAL:      http.StatusConflict,
	sheafv1.Code_CODE_SIGN_IN:      http.StatusFailedDependency,
	sheafv1.Code_CODE_FORBIDDEN:    http.StatusForbidden,
}
