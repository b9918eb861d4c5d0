// @ts-check
/**
 * What the gateway tells, as types.
 *
 * @typedef {{ call: string, function: string, since: number }} Running
 *
 * @typedef {object} Gpu what a session has on GPUs: bytes and seconds
 * @property {number} memory
 * @property {number} reserved
 * @property {number} parked in host memory
 * @property {Record<string, number>} gpus by their UUIDs
 * @property {string | null} kept why it is not parked
 * @property {number} moves
 * @property {number | null} park_seconds
 * @property {number | null} unpark_seconds
 * @property {number | null} waits_since for room
 *
 * @typedef {object} Row a session or a worker of the shared pool
 * @property {string} id
 * @property {string} kind
 * @property {string} app
 * @property {string | null} name
 * @property {Record<string, string>} labels
 * @property {string} state
 * @property {number} created
 * @property {number | null} last_call
 * @property {number} calls
 * @property {number} queued
 * @property {Running | null} running
 * @property {number | null} idle_timeout
 * @property {number | null} expires_at
 * @property {number | null} held_until
 * @property {number | null} lives_until
 * @property {string} origin
 * @property {number | null} pid
 * @property {number | null} memory
 * @property {number | null} cpu
 * @property {Gpu | null} gpu
 * @property {string | null} reason
 * @property {any} progress
 * @property {number | null} [ended_at] when its process ended, or this page was told of its end
 *
 * @typedef {object} Call one that has ended; durations in seconds
 * @property {string} id
 * @property {string | null} session
 * @property {string} app
 * @property {string} function
 * @property {number} arrived
 * @property {number} ended
 * @property {string | null} code
 * @property {string} message
 * @property {'no' | 'yes' | 'maybe' | null} [ran]
 * @property {boolean} cold
 * @property {number | null} queue
 * @property {number | null} spawn
 * @property {number | null} imports
 * @property {number | null} setup
 * @property {number | null} run
 * @property {number | null} first
 *
 * @typedef {{ version: string, key: string | null, may: string[], open: boolean }} Gateway
 *
 * @typedef {object} Daemon
 * @property {string} version
 * @property {number} pid
 * @property {string} boot
 * @property {string} address
 * @property {number} uptime_seconds
 * @property {number | null} memory
 * @property {number | null} [cpu]
 * @property {number} max_sessions
 * @property {boolean} draining
 *
 * @typedef {object} Line one line of the live stream
 * @property {string} type
 * @property {number} now
 * @property {Gateway} [gateway]
 * @property {Partial<Daemon>} [daemon]
 * @property {Row[]} [sessions]
 * @property {Call[]} [calls]
 * @property {number} [calls_total]
 * @property {Record<string, [number | null, number | null]>} [usage]
 * @property {string} [detail]
 *
 * @typedef {object} AppFunction
 * @property {string} name
 * @property {string} summary
 * @property {string} doc
 * @property {any} input_schema
 * @property {any} output_schema
 * @property {boolean} streams
 *
 * @typedef {object} AppDescription
 * @property {string} app
 * @property {string} summary
 * @property {string} doc
 * @property {string | null} default_function
 * @property {AppFunction[]} functions
 * @property {any} setup_schema
 *
 * @typedef {object} Task
 * @property {string} id
 * @property {number} status
 * @property {string | null} session_id
 * @property {any} output
 * @property {any} [progress]
 * @property {string | null} [error]
 * @property {string | null} [error_code]
 * @property {unknown[]} [events] of a line about its state; a line of a part has none
 */
export {};
