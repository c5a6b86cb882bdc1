/**
 * Which addresses are of the internet, for URLs that a stranger chose: this machine, the house's networks and a
 * cloud's metadata must not be reached through us.
 */
import { BlockList, isIP, isIPv4 } from 'node:net'

/** False for what is no address. Source: the IANA registries of special-purpose addresses. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !special.check(address, 'ipv4')
    case 6:
      return isPublicV6(address)
    default:
      return false
  }
}

const special = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  // A cloud's virtual host answers there, though the network is a public one.
  ['168.63.129.16', 32],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const)
  special.addSubnet(network, prefix, 'ipv4')

/** Of IPv6 the global unicast addresses, without those that are none: what is not known is not public. */
const unicast = new BlockList()
unicast.addSubnet('2000::', 3, 'ipv6')
const reserved = new BlockList()
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  reserved.addSubnet(network, prefix, 'ipv6')
/** Where a network has IPv6 only, its name servers put every IPv4 address in here. */
const translated = new BlockList()
translated.addSubnet('64:ff9b::', 96, 'ipv6')

function isPublicV6(address: string): boolean {
  // A zone names an interface of this machine.
  if (address.includes('%')) return false
  if (translated.check(address, 'ipv6')) return isPublicAddress(lastFourBytes(address))
  return unicast.check(address, 'ipv6') && !reserved.check(address, 'ipv6')
}

function lastFourBytes(address: string): string {
  const tail = address.slice(address.lastIndexOf(':') + 1)
  if (isIPv4(tail)) return tail
  // A URL's own spelling has two groups of four digits at the end, or fewer where they are zero.
  const [high, low] = new URL(`http://[${address}]`).hostname
    .slice(1, -1)
    .split(':')
    .slice(-2)
    .map((group) => Number.parseInt(group === '' ? '0' : group, 16))
  if (high === undefined || low === undefined) return ''
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}
