package service

import (
	"context"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// Settings are what can be set of this device. They are safe for concurrent use. Errors have their codes.
type Settings interface {
	// List returns all there are, by their keys.
	List() ([]*sheafv1.Setting, error)
	// Set sets one, or takes it back with value "", and returns it as it is then. What can hold at once does.
	Set(key, value string) (*sheafv1.Setting, error)
	// Path is the file in which they lie.
	Path() string
}

func (s *Service) settings() (Settings, error) {
	if s.o.Settings == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "nothing can be set here")
	}
	return s.o.Settings, nil
}

// Settings has all settings.
func (s *Service) Settings(context.Context, *sheafv1.SettingsListRequest) (*sheafv1.SettingsListResponse, error) {
	x, err := s.settings()
	if err != nil {
		return nil, err
	}
	all, err := x.List()
	if err != nil {
		return nil, err
	}
	return &sheafv1.SettingsListResponse{Settings: all, Path: x.Path()}, nil
}

// SetSetting sets one.
func (s *Service) SetSetting(_ context.Context, r *sheafv1.SettingsSetRequest) (*sheafv1.SettingsSetResponse, error) {
	x, err := s.settings()
	if err != nil {
		return nil, err
	}
	one, err := x.Set(r.GetKey(), r.GetValue())
	if err != nil {
		return nil, err
	}
	return &sheafv1.SettingsSetResponse{Setting: one}, nil
}
