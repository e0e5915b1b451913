package rtc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
)

// Keys are what a DTLS handshake agreed on for SRTP (RFC 5764 §4.2).
type Keys struct {
	Profile               dtls.SRTPProtectionProfile
	localKey, localSalt   []byte
	remoteKey, remoteSalt []byte
}

// String names the SRTP profile; the keys stay secret.
func (k Keys) String() string { return srtp.ProtectionProfile(k.Profile).String() }

// exporter is the TLS exporter of a finished handshake (RFC 5705).
type exporter interface {
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
}

// keysOf takes a server's or client's share out of the exported keying material.
func keysOf(e exporter, profile dtls.SRTPProtectionProfile, server bool) (Keys, error) {
	keyLen, err := srtp.ProtectionProfile(profile).KeyLen()
	if err != nil {
		return Keys{}, fmt.Errorf("SRTP profile %v: %w", profile, err)
	}
	saltLen, err := srtp.ProtectionProfile(profile).SaltLen()
	if err != nil {
		return Keys{}, fmt.Errorf("SRTP profile %v: %w", profile, err)
	}
	m, err := e.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*keyLen+2*saltLen)
	if err != nil {
		return Keys{}, fmt.Errorf("export SRTP keys: %w", err)
	}
	take := func(n int) []byte {
		b := m[:n:n]
		m = m[n:]
		return b
	}
	clientKey, serverKey, clientSalt, serverSalt := take(keyLen), take(keyLen), take(saltLen), take(saltLen)
	if server {
		return Keys{profile, serverKey, serverSalt, clientKey, clientSalt}, nil
	}
	return Keys{profile, clientKey, clientSalt, serverKey, serverSalt}, nil
}

// SealRTCP returns a context that encrypts what we send.
func (k Keys) SealRTCP() (*srtp.Context, error) {
	return srtp.CreateContext(k.localKey, k.localSalt, srtp.ProtectionProfile(k.Profile))
}

// open returns a context that decrypts what we receive, RTP and RTCP, and refuses replays.
func (k Keys) open() (*srtp.Context, error) {
	return srtp.CreateContext(k.remoteKey, k.remoteSalt, srtp.ProtectionProfile(k.Profile),
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(64))
}

// A Sealer encrypts the RTP packets of one session. One goroutine uses it at a time: its scratch space is its own, so that
// sealing allocates nothing.
type Sealer struct {
	tag  int // bytes
	gcm  cipher.AEAD
	salt [16]byte
	iv   [16]byte

	block cipher.Block // AES-CM; nil with GCM
	mac   hash.Hash
	sum   [sha1.Size]byte
	roc   [4]byte
}

// Sealer returns a Sealer for what we send.
func (k Keys) Sealer() (*Sealer, error) {
	s := &Sealer{}
	key, err := derive(k.localKey, k.localSalt, 0, len(k.localKey))
	if err != nil {
		return nil, err
	}
	salt, err := derive(k.localKey, k.localSalt, 2, len(k.localSalt))
	if err != nil {
		return nil, err
	}
	copy(s.salt[:], salt)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make SRTP cipher: %w", err)
	}
	switch k.Profile {
	case dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM:
		if s.gcm, err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("make SRTP cipher: %w", err)
		}
		s.tag = s.gcm.Overhead()
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		auth, err := derive(k.localKey, k.localSalt, 1, sha1.Size)
		if err != nil {
			return nil, err
		}
		s.block, s.mac, s.tag = block, hmac.New(sha1.New, auth), 10
	default:
		return nil, fmt.Errorf("SRTP profile %v is not supported", k.Profile)
	}
	return s, nil
}

// Overhead returns how many bytes Seal adds to a packet.
func (s *Sealer) Overhead() int { return s.tag }

// Seal appends payload, encrypted, and the authentication tag to header, a whole RTP header, and returns the SRTP packet. The
// room must be there: header's capacity is at least len(header)+len(payload)+Overhead(). payload stays as it is unless it
// already lies behind header. index is the packet's ROC and sequence number (RFC 3711 §3.3.1).
func (s *Sealer) Seal(header, payload []byte, ssrc uint32, index uint64) []byte {
	if s.gcm != nil { // RFC 7714 §8.1
		iv := s.iv[:12]
		binary.BigEndian.PutUint16(iv, 0)
		binary.BigEndian.PutUint32(iv[2:], ssrc)
		binary.BigEndian.PutUint32(iv[6:], uint32(index>>16))
		binary.BigEndian.PutUint16(iv[10:], uint16(index))
		for i := range iv {
			iv[i] ^= s.salt[i]
		}
		return s.gcm.Seal(header, iv, payload, header)
	}
	iv := s.iv[:] // RFC 3711 §4.1.1
	clear(iv)
	binary.BigEndian.PutUint32(iv[4:], ssrc)
	binary.BigEndian.PutUint64(iv[6:], index|uint64(ssrc&0xffff)<<48)
	for i := range iv[:14] {
		iv[i] ^= s.salt[i]
	}
	packet := header[:len(header)+len(payload)]
	cipher.NewCTR(s.block, iv).XORKeyStream(packet[len(header):], payload)
	s.mac.Reset()
	s.mac.Write(packet)
	binary.BigEndian.PutUint32(s.roc[:], uint32(index>>16))
	s.mac.Write(s.roc[:])
	return append(packet, s.mac.Sum(s.sum[:0])[:s.tag]...)
}

// derive is the key derivation of RFC 3711 §4.3 with a key derivation rate of 0.
func derive(key, salt []byte, label byte, n int) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive SRTP key: %w", err)
	}
	var x [aes.BlockSize]byte
	copy(x[:14], salt) // a salt of 12 bytes (RFC 7714 §11) counts as followed by zeros
	x[7] ^= label
	out := make([]byte, 0, n+aes.BlockSize)
	for i := 0; len(out) < n; i++ {
		binary.BigEndian.PutUint16(x[14:], uint16(i))
		out = out[:len(out)+aes.BlockSize]
		block.Encrypt(out[len(out)-aes.BlockSize:], x[:])
	}
	return out[:n], nil
}
