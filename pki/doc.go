// Package pki is Homeward's own small certificate authority and the identities
// it issues. An identity says who a node is, as a role and a name, in the URI of
// its certificate: homeward://agent/web01. Every connection between nodes is
// mutual TLS 1.3, and each side states which roles it takes.
//
// An authority is a directory:
//
//	ca.pem       its certificate
//	ca-key.pem   its private key, mode 0600; encrypted with SealedWith
//	revoked.pem  its signed list of revoked certificates (an X.509 CRL)
//
// An identity is a directory too, and can be copied to its node:
//
//	ca.pem       the authorities it trusts, one or more
//	cert.pem     its certificate
//	key.pem      its private key, mode 0600
//	next-key.pem a key whose certificate is on its way (NewCSR, Install), mode 0600
//	revoked.pem  the newest revocation list of each of these authorities
//
// An identity is made beside the authority (Authority.Issue), or at the node, whose
// key then never leaves it: NewCSR there, ParseCSR and IssueCSR at the authority,
// Install there. Package enrol carries the two over the network.
//
// Everything but a sealed key is PEM of the usual kinds, so openssl reads it, and curl can speak
// to a node with it. Identities also sign documents: see Sign.
package pki
