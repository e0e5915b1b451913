// Package pin makes TLS clients that know a server by its certificate's fingerprint: cameras and boxes have certificates of their own
// making, which no authority vouches for (RFC 5280 knows them as self-signed).
//
// It refuses to know a way of taking any certificate.
package pin

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// errFingerprint: what stands in a configuration is no fingerprint.
var errFingerprint = errors.New("want the SHA-256 of the certificate, 64 hexadecimal digits, with colons or without")

// Validate returns an error unless fingerprint is empty or 64 hexadecimal digits, in pairs with colons between or without.
func Validate(fingerprint string) error {
	_, err := parse(fingerprint)
	return err
}

func parse(fingerprint string) ([]byte, error) {
	if fingerprint == "" {
		return nil, nil
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(fingerprint, ":", ""))
	if err != nil || len(sum) != sha256.Size {
		return nil, errFingerprint
	}
	return sum, nil
}

// Client returns the configuration of a client that takes one certificate alone, whoever signed it and whatever its names and
// dates are; for "" one that asks the authorities as usual. Explain makes its errors helpful.
func Client(fingerprint string) (*tls.Config, error) {
	want, err := parse(fingerprint)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if want == nil {
		return c, nil
	}
	c.InsecureSkipVerify = true // VerifyConnection verifies, at each connection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if got := sha256.Sum256(s.PeerCertificates[0].Raw); !bytes.Equal(got[:], want) {
			return fmt.Errorf("the server's certificate is not the one that is set: its fingerprint is %s", format(got[:]))
		}
		return nil
	}
	return c, nil
}

// Explain adds to the error of a connection whose certificate no authority vouches for which fingerprint to set; it returns others as
// they are.
func Explain(err error) error {
	var refused *tls.CertificateVerificationError
	if !errors.As(err, &refused) || len(refused.UnverifiedCertificates) == 0 {
		return err
	}
	return fmt.Errorf("%w; if this is the server's own certificate, set fingerprint: %s", err, Fingerprint(refused.UnverifiedCertificates[0]))
}

// Fingerprint is how a certificate's SHA-256 is written: pairs of digits with colons between, as openssl x509 -fingerprint -sha256 has it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return format(sum[:])
}

func format(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}
