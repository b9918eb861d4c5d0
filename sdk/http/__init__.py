"""The HTTP gateway: an ASGI application that is one more client of the daemon.

It speaks the protocol of inference.sh's clients, and keeps nothing that cannot be lost: a run is a
detached call, so the daemon has its parts and its end, and what the gateway must know of it besides
(whose it is, its input) travels as the call's note.

    gateway                         the routes, and what all of them share
    server connections keeper       uvicorn around it: its sockets, its end, its next start
    front                           what each request passes first: id, key, rate, size, counts
    keys owners access              who may come in, what is whose, and what a key may do
    origins proxy                   browsers' pages: who may ask without a key, and the route for them
    limits room                     how often a key may ask; how much its files may take
    requests replies problems       bodies -> options of a call; JSON, envelopes; errors
    runs tasks task                 runs as HTTP knows them: routes, all of them, one
    streams                         a run as lines, while it goes on
    sessions                        looked at, kept alive, ended
    files filestore leases inputs   what is uploaded: on the disk, for how long, in which inputs
    fileroutes contents addresses   its routes, its bytes, and the secrets in its addresses
    outputs outfiles plainjson      what apps give -> JSON, and files where JSON cannot hold it
    taskfiles                       the files of one run
    webhooks                        the POST at a run's end
    metrics health openapi logs     what it tells of itself
    options moments                 what can be said about a gateway; time as texts
"""
