/**
 * The server's clock, read from HTTP `Date` headers, so that the latency shown is true on a machine whose
 * own clock is seconds off. A `Date` of second D, sent between the request at `sent` and the answer's first
 * byte at `received` (both on the local clock, ms), says: server time was in [D, D + 1 s) somewhere in
 * between. Each answer narrows the offset; the answers of one second's length narrow it to a round trip.
 */
export class ServerClock {
  private low = -Infinity;
  private high = Infinity;

  /** @param date the header's value in ms since 1970 */
  observe(date: number, sent: number, received: number): void {
    if (!Number.isFinite(date) || !(received >= sent)) return;
    const low = date - received;
    const high = date + 1000 - sent;
    if (low > this.high || high < this.low) {
      // The clocks moved against each other (NTP step, suspended laptop): start again from here.
      this.low = low;
      this.high = high;
      return;
    }
    this.low = Math.max(this.low, low);
    this.high = Math.min(this.high, high);
  }

  /** Server time in ms since 1970 at local time `now`; null until known to a quarter of a second. */
  at(now: number): number | null {
    return this.high - this.low <= 500 ? now + (this.low + this.high) / 2 : null;
  }
}
