/** Which addresses a stranger's URL may lead to. */
import { describe, expect, it } from 'vitest'
import { isPublicAddress } from '../../../src/notifications/channels/public-address.ts'

describe('isPublicAddress', () => {
  it.each([
    '8.8.8.8',
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '223.255.255.255',
    '2001:4860:4860::8888',
    '2606:4700:4700::1111',
    '2a00:1450:4001:82a::200e',
    // The internet, as a network without IPv4 sees it.
    '64:ff9b::8.8.8.8',
    '64:ff9b::808:808',
    '64:ff9b::800:0',
  ])('lets %s through', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  it.each([
    ['this host', '0.0.0.0', '0.1.2.3', '::'],
    ['loopback', '127.0.0.1', '127.255.255.254', '::1'],
    ['private networks', '10.0.0.1', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.1'],
    ['carrier-grade NAT, and a metadata service in it', '100.64.0.1', '100.127.255.255', '100.100.100.200'],
    ['link-local, metadata services among it', '169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1'],
    ["a cloud's virtual host", '168.63.129.16'],
    ['unique-local', 'fc00::1', 'fd00:ec2::254', 'fdff::1'],
    ['site-local', 'fec0::1'],
    ['multicast', '224.0.0.1', '239.255.255.250', 'ff02::1', 'ff0e::1'],
    ['broadcast and reserved', '255.255.255.255', '240.0.0.1'],
    ['documentation', '192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
    ['benchmarks and protocols', '198.18.0.1', '198.19.255.255', '192.0.0.8', '192.88.99.1', '100::1'],
    ['IPv4 in IPv6, mapped', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8', '::ffff:10.0.0.1'],
    ['IPv4 in IPv6, compatible', '::127.0.0.1', '::7f00:1'],
    ['IPv4 in IPv6, translated', '64:ff9b::7f00:1', '64:ff9b::10.0.0.1', '64:ff9b::', '64:ff9b::1'],
    ['IPv4 in IPv6, translated in a network of its own', '64:ff9b:1::8.8.8.8'],
    ['IPv4 in IPv6, tunnelled', '2002:7f00:1::', '2002:a00:1::1', '2001:0:4136:e378::1'],
    ['an interface of this machine', 'fe80::1%eth0', '2606:4700::1%eth0'],
    ['what is no address', '', 'localhost', '127.1', '0x7f000001', '2130706433', '8.8.8.8 ', '[::1]'],
  ])('lets through nothing of %s', (_, ...addresses) => {
    expect(addresses.filter(isPublicAddress)).toEqual([])
  })
})
