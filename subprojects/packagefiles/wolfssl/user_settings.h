// SPDX-License-Identifier: GPL-3.0-or-later
// wolfSSL as ringmx needs it, and nothing else. Preprocessor lines only: the .S files read this too.
#ifndef RINGMX_WOLFSSL_USER_SETTINGS_H
#define RINGMX_WOLFSSL_USER_SETTINGS_H

// Protocol: TLS 1.2 and 1.3, both sides, ECDHE with AEAD only.
#define WOLFSSL_TLS13
#define WOLFSSL_TLS13_MIDDLEBOX_COMPAT
#define NO_OLD_TLS
#define NO_DH
#define NO_DSA
#define NO_PSK
#define NO_RC4
#define NO_DES3
#define NO_MD4
#define NO_MD5
#define NO_AES_CBC
#define HAVE_TLS_EXTENSIONS
#define HAVE_SUPPORTED_CURVES
#define HAVE_EXTENDED_MASTER
#define HAVE_SERVER_RENEGOTIATION_INFO  // RFC 5746's answer, which OpenSSL 3 insists on; no renegotiation
#define HAVE_SNI
#define WOLFSSL_ALWAYS_KEEP_SNI  // certificates are chosen by it
#define HAVE_ALPN
#define HAVE_SESSION_TICKET
#define WOLFSSL_NO_DEF_TICKET_ENC_CB  // ticket keys are ringmx's own, shared by all cores
#define MICRO_SESSION_CACHE           // tickets carry the state; 5.9.2 does not link without any cache, so
                                      // every context turns it off: WOLFSSL_SESS_CACHE_OFF

// Hooks: bytes in and out by callback, keys for the kernel, traffic secrets for KeyUpdate.
#define WOLFSSL_USER_IO
#define ATOMIC_USER
#define HAVE_SECRET_CALLBACK
#define WOLFSSL_ALWAYS_VERIFY_CB  // what a client presents is of interest when it is good, too
#define WOLFSSL_EXTRA_ALERTS

// Key exchange: X25519MLKEM768, X25519, P-256. P-384 because public CAs sign with it.
#define HAVE_CURVE25519
#define HAVE_ECC
#define HAVE_ECC384
#define ECC_USER_CURVES
#define ECC_SHAMIR
#define WOLFSSL_HAVE_MLKEM
#define WOLFSSL_PQC_HYBRIDS
#define WOLFSSL_TLS_NO_MLKEM_STANDALONE
#define WOLFSSL_NO_ML_KEM_512
#define WOLFSSL_NO_ML_KEM_1024
#define WOLFSSL_SHA3
#define WOLFSSL_SHAKE128
#define WOLFSSL_SHAKE256

// Ciphers, hashes, signatures.
#define HAVE_AESGCM
#define HAVE_CHACHA
#define HAVE_POLY1305
#define HAVE_HKDF
#define WOLFSSL_SHA384
#define WOLFSSL_SHA512
#define WC_RSA_PSS
#define WOLFSSL_ASN_TEMPLATE
#define WOLFSSL_ALT_CERT_CHAINS  // a cross-signed chain may end at any trusted CA
#define NO_PWDBASED
#define NO_PKCS12

// Nothing leaks by timing.
#define TFM_TIMING_RESISTANT
#define ECC_TIMING_RESISTANT
#define WC_RSA_BLINDING  // where sp_int does RSA
#define WOLF_CRYPTO_CB   // the fixed-size code below is blinded by ringmx: src/tls/rsa_blinding.h

// Arithmetic: fixed-size code for RSA-2048/3072/4096, P-256 and P-384; any other size by sp_int.
#define WOLFSSL_SP_MATH_ALL
#define SP_INT_BITS 4096
#define WOLFSSL_HAVE_SP_RSA  // without it an RSA-2048 signature takes 1.9 ms instead of 0.5
#define WOLFSSL_HAVE_SP_ECC
#define WOLFSSL_SP_4096
#define WOLFSSL_SP_384
#if defined(__x86_64__)
#define WOLFSSL_X86_64_BUILD
#define WOLFSSL_SP_X86_64
#define WOLFSSL_SP_X86_64_ASM
#define WOLFSSL_SP_ASM
#define WOLFSSL_AESNI
#define USE_INTEL_SPEEDUP  // AVX, AVX2, BMI2: chosen at run time
#endif

// The system, which configure would have looked at.
#define SIZEOF_LONG 8
#define SIZEOF_LONG_LONG 8
#define HAVE___UINT128_T 1  // fe_x25519_asm.S hangs on it
#define WOLFSSL_GETRANDOM
#define WOLFSSL_USE_ALIGN
#define HAVE_THREAD_LS
#define HAVE_GMTIME_R  // else two cores that read a certificate's dates share one buffer
#define HAVE_SYS_TIME_H
#define NO_FILESYSTEM  // PEM comes from memory: files are read before privileges drop
#define NO_WRITEV
#define NO_MAIN_DRIVER
#define NO_ERROR_QUEUE
#define WOLFSSL_IGNORE_FILE_WARN

#endif
