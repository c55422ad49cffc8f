package service

import (
	"context"

	sheaf "github.com/sheaf-drive/sheaf"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// Devices has the devices of the drive.
func (s *Service) Devices(ctx context.Context, _ *sheafv1.DevicesListRequest) (*sheafv1.DevicesListResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	all, err := d.Devices(ctx)
	if err != nil {
		return nil, err
	}
	var resp sheafv1.DevicesListResponse
	for _, x := range all {
		resp.Devices = append(resp.Devices, deviceOf(x))
	}
	return &resp, nil
}

func deviceOf(x sheaf.DeviceInfo) *sheafv1.Device {
	m := &sheafv1.Device{
		Id: x.ID, Name: x.Name, Self: x.Self, Writer: x.Writer, Revoked: x.Revoked, Added: stamp(x.Added), Seen: stamp(x.Seen),
	}
	if x.Err != nil {
		m.Error = x.Err.Error()
	}
	return m
}

// RevokeDevice ends the membership of a device.
func (s *Service) RevokeDevice(ctx context.Context, r *sheafv1.DevicesRevokeRequest) (*sheafv1.DevicesRevokeResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	x, err := d.Revoke(ctx, r.GetDevice())
	if err != nil {
		return nil, err
	}
	return &sheafv1.DevicesRevokeResponse{Device: deviceOf(x)}, nil
}
