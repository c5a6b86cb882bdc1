/**
 * The process itself: time, memory, files, and how late its event loop is.
 *
 * prom-client's own default metrics are not used: they cannot be stopped again, and their observer of garbage collections
 * is paid by every allocation. The names are the usual ones.
 */
import { readdirSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, type Registry } from 'prom-client'
import { gaugesOf } from './gauge.ts'

/** How often the event loop is expected to come round, ms. */
const resolutionMs = 20
const percentiles = [50, 99, 100]

/** @returns the way to stop measuring. */
export function watchProcess(registry: Registry): () => void {
  const registers = [registry]

  const gauge = gaugesOf(registry)

  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time, user and system.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage()
      this.reset()
      this.inc((user + system) / 1e6)
    },
  })
  const startedAtS = Math.round(Date.now() / 1000 - process.uptime())
  gauge('process_start_time_seconds', 'When it started, seconds since 1970.', () => startedAtS)
  gauge('process_resident_memory_bytes', 'Memory that it occupies.', () => process.memoryUsage.rss())
  gauge('process_open_fds', 'Open files and sockets; Linux alone tells.', openFiles)
  gauge('nodejs_heap_size_total_bytes', 'The JavaScript heap.', () => process.memoryUsage().heapTotal)
  gauge('nodejs_heap_size_used_bytes', 'What of it is used.', () => process.memoryUsage().heapUsed)
  gauge(
    'nodejs_external_memory_bytes',
    'Memory of buffers and the like, outside of the heap.',
    () => process.memoryUsage().external,
  )
  new Gauge({
    name: 'nodejs_version_info',
    help: 'The version of Node.js.',
    labelNames: ['version'],
    registers,
  }).set({ version: process.version }, 1)

  const delay = monitorEventLoopDelay({ resolution: resolutionMs })
  delay.enable()
  new Gauge({
    name: 'rivulet_event_loop_delay_seconds',
    help: 'How late the event loop came round since the last scrape, by percentile; 100 is the worst.',
    labelNames: ['percentile'],
    registers,
    collect() {
      for (const percentile of percentiles)
        this.set({ percentile }, Math.max(delay.percentile(percentile) / 1e6 - resolutionMs, 0) / 1000)
      delay.reset()
    },
  })
  return () => void delay.disable()
}

function openFiles(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return undefined
  }
}
