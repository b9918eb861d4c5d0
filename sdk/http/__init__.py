"""The HTTP gateway: an ASGI application that is one more client of the daemon.

It speaks the protocol of inference.sh's clients, and keeps nothing that cannot be lost: a run is a
detached call, so the daemon has its parts and its end, and what the gateway must know of it besides
(whose it is, its input) travels as the call's note.

    gateway     the routes, and what all of them share
    front       what each request passes first: key, rate, size, request id, counts
    keys        bearer keys: who may come in, and for what
    requests    the body of a request -> options of a call
    tasks       runs, as HTTP knows them: states, their ends, what is known after a restart
    streams     a run as lines, while it goes on
    replies     JSON, envelopes; `problems` the errors
    files       what is uploaded, and what outputs hold that JSON cannot
    webhooks    the POST at a run's end
    origins     whether a browser's page may ask without a key
    proxy       the route that browsers' clients call, which have no key
    metrics     for Prometheus, and the daemon's figures with them
    server      uvicorn around it, and its end
"""
