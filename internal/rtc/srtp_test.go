package rtc

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// RFC 3711 appendix B.3.
func TestDerive(t *testing.T) {
	key, _ := hex.DecodeString("E1F97A0D3E018BE0D64FA32C06DE4139")
	salt, _ := hex.DecodeString("0EC675AD498AFEEBB6960B3AABE6")
	for label, want := range map[byte]string{
		0: "c61e7a93744f39ee10734afe3ff7a087",
		1: "cebe321f6ff7716b6fd4ab49af256a156d38baa4",
		2: "30cbbc08863d8c85d49db34a9ae1",
	} {
		got, err := derive(key, salt, label, len(want)/2)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("label %d: %x, %v; want %s", label, got, err, want)
		}
	}
}

func testKeys(profile dtls.SRTPProtectionProfile) Keys {
	key := []byte("0123456789abcdef")
	salt := []byte("ghijklmnopqrst")
	if n, _ := srtp.ProtectionProfile(profile).SaltLen(); n < len(salt) {
		salt = salt[:n]
	}
	return Keys{Profile: profile, localKey: key, localSalt: salt, remoteKey: key, remoteSalt: salt}
}

// What a Sealer writes, another implementation's receiver opens, across the wrap of the sequence number.
func TestSealerAgainstPion(t *testing.T) {
	for _, profile := range []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80} {
		k := testKeys(profile)
		t.Run(k.String(), func(t *testing.T) {
			s, err := k.Sealer()
			if err != nil {
				t.Fatal(err)
			}
			open, err := srtp.CreateContext(k.localKey, k.localSalt, srtp.ProtectionProfile(profile))
			if err != nil {
				t.Fatal(err)
			}
			payload := bytes.Repeat([]byte("gantry "), 150)
			for index := uint64(65530); index < 65545; index++ {
				h := rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: uint16(index), SSRC: 0xdecafbad, Timestamp: 90}
				head, err := h.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				buf := append(make([]byte, 0, 2000), head...)
				in := payload
				if index%2 == 0 { // in place
					in = append(buf[:len(head)], payload...)[len(head):]
				}
				packet := s.Seal(buf, in, h.SSRC, index)
				if len(packet) != len(head)+len(payload)+s.Overhead() {
					t.Fatalf("%d bytes", len(packet))
				}
				plain, err := open.DecryptRTP(nil, packet, nil)
				if err != nil {
					t.Fatalf("packet %d: %v", index, err)
				}
				if !bytes.Equal(plain[len(head):], payload) {
					t.Fatalf("packet %d: another payload", index)
				}
			}
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, profile := range []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80} {
		k := testKeys(profile)
		b.Run(k.String(), func(b *testing.B) {
			s, err := k.Sealer()
			if err != nil {
				b.Fatal(err)
			}
			buf, payload := make([]byte, 12, 2000), make([]byte, 1200)
			b.SetBytes(1200)
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				s.Seal(buf, payload, 1, i)
			}
		})
	}
}
