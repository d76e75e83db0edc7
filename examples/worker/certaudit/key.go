package certaudit

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
)

// compareKey sets Key. What goes into the report is one of a few fixed words and
// sentences; not even the text of an error may come from the key.
func (r *Report) compareKey(leaf *x509.Certificate, key []byte) {
	r.Key = keyState(leaf, key)
	switch r.Key {
	case KeyDiffers:
		r.problem("tls.key: is not the key of the first certificate in tls.crt")
	case KeyAbsent:
		r.problem("tls.key: is empty")
	case KeyUnreadable:
		r.problem("tls.key: no private key that can be read")
	}
}

func keyState(leaf *x509.Certificate, key []byte) KeyState {
	if len(key) == 0 {
		return KeyAbsent
	}
	public := publicHalf(key)
	if public == nil {
		return KeyUnreadable
	}
	// All public keys of the standard library compare themselves.
	if same, ok := public.(interface{ Equal(crypto.PublicKey) bool }); ok && same.Equal(leaf.PublicKey) {
		return KeyMatches
	}
	return KeyDiffers
}

// publicHalf returns the public key of the first private key in the PEM data,
// or nil. Each decoded block is cleared as soon as it has been parsed.
func publicHalf(data []byte) crypto.PublicKey {
	for n := 0; n < maxCertificates; n++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil
		}
		public := publicOf(block.Bytes)
		clear(block.Bytes)
		if public != nil {
			return public
		}
	}
	return nil
}

func publicOf(der []byte) crypto.PublicKey {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer.Public()
		}
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key.Public()
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key.Public()
	}
	return nil
}
