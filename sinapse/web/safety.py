"""What every answer says to browsers, so that no page can use it for anything but what it is."""

#: The URL of a stream may carry a token, and must not become a referrer. An answer is of the type
#: that it says (Fetch §3.6), loads nothing, stands in no frame (Content Security Policy Level 3),
#: and is no image or script of a page of another site (Fetch §3.8). None of that concerns requests
#: by CORS, which is what EventSource and fetch make.
SAFETY = (
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)
