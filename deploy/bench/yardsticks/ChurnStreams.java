import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The yardstick in Kafka Streams: the job of deploy/bench/yardsticks/job.py, written as its documentation would have it
 * written, with its defaults: at least once, a commit every 30 s, a RocksDB store with its changelog.
 *
 * <p>Says "MARK first", "MARK last" (all events are processed) and "MARK durable" (committed and closed) on standard
 * output, then one line RESULT with JSON, and ends when standard input does.
 */
public final class ChurnStreams {
  static final int RING_DAYS = 30;
  static final double ALERT_RISK = 0.75;
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private ChurnStreams() {}

  public static void main(String[] args) throws Exception {
    if (args.length != 7) {
      System.err.println("usage: ChurnStreams BOOTSTRAP PREFIX APPLICATION_ID EVENTS THREADS CACHING STATE_DIR");
      System.exit(2);
    }
    Progress progress = new Progress(Long.parseLong(args[3]));
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[4]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[6]);
    StreamsBuilder builder = topology(args[1], args[2], Boolean.parseBoolean(args[5]), progress);
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          progress.failed = true;
          progress.done.countDown();
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    streams.start();
    boolean isDone = progress.done.await(10, TimeUnit.MINUTES) && !progress.failed;
    isDone &= streams.close(Duration.ofMinutes(1));
    if (!isDone) {
      System.err.println("Kafka Streams did not finish: " + progress.events.get() + " events");
      System.exit(1);
    }
    System.out.println("MARK durable");
    System.out.println(
        String.format(
            Locale.ROOT,
            "RESULT {\"events\": %d, \"accounts\": %d, \"uses\": %d, \"alerts\": %d}",
            progress.events.get(),
            progress.accounts.get(),
            progress.uses.get(),
            progress.alerts.get()));
    System.out.flush();
    while (System.in.read() >= 0) {
      // The one who measures us says when we may go.
    }
  }

  static StreamsBuilder topology(String prefix, String id, boolean isCaching, Progress progress) {
    StoreBuilder<KeyValueStore<String, Account>> plain =
        Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("accounts"), Serdes.String(), accountSerde());
    StoreBuilder<KeyValueStore<String, Account>> store = isCaching ? plain.withCachingEnabled() : plain;
    ProcessorSupplier<String, Event, String, Alert> scoring =
        new ProcessorSupplier<>() {
          @Override
          public Processor<String, Event, String, Alert> get() {
            return new Scoring(progress);
          }

          @Override
          public Set<StoreBuilder<?>> stores() {
            return Set.of(store);
          }
        };
    StreamsBuilder builder = new StreamsBuilder();
    List<String> topics =
        List.of(prefix + ".usage-events", prefix + ".ticket-events", prefix + ".payment-events");
    builder.stream(topics, Consumed.with(Serdes.String(), jsonSerde(Event.class)))
        .process(scoring)
        .to(id + ".alerts", Produced.with(Serdes.String(), jsonSerde(Alert.class)));
    return builder;
  }

  /** What was done, over all threads. */
  static final class Progress {
    final long expected;
    final AtomicLong events = new AtomicLong();
    final AtomicLong accounts = new AtomicLong();
    final AtomicLong uses = new AtomicLong();
    final AtomicLong alerts = new AtomicLong();
    final CountDownLatch done = new CountDownLatch(1);
    volatile boolean failed;

    Progress(long expected) {
      this.expected = expected;
    }

    void processed() {
      long count = events.incrementAndGet();
      if (count == 1) {
        System.out.println("MARK first");
      }
      if (count == expected) {
        System.out.println("MARK last");
        done.countDown();
      }
    }
  }

  /** Fold one event into its account, score the account, and say it when the risk crosses the line. */
  static final class Scoring implements Processor<String, Event, String, Alert> {
    private final Progress progress;
    private ProcessorContext<String, Alert> context;
    private KeyValueStore<String, Account> accounts;

    Scoring(Progress progress) {
      this.progress = progress;
    }

    @Override
    public void init(ProcessorContext<String, Alert> context) {
      this.context = context;
      this.accounts = context.getStateStore("accounts");
    }

    @Override
    public void process(Record<String, Event> record) {
      Account account = accounts.get(record.key());
      if (account == null) {
        account = new Account();
        progress.accounts.incrementAndGet();
      }
      progress.uses.addAndGet(account.fold(record.value()));
      if (account.score()) {
        progress.alerts.incrementAndGet();
        context.forward(
            record.withValue(new Alert(record.key(), account.health, account.risk, record.value().time())));
      }
      accounts.put(record.key(), account);
      progress.processed();
    }
  }

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Event(String type, String time, Data data) {}

  @JsonIgnoreProperties(ignoreUnknown = true)
  record Data(@JsonProperty("user_id") String userId, @JsonProperty("count") Integer count, String to) {}

  record Alert(@JsonProperty("account_id") String accountId, double health, double risk, String time) {}

  /** What is kept of an account: the uses of 30 days, and a few counters. */
  static final class Account {
    static final int BYTES = 4 * RING_DAYS + 4 + 8 + 4 + 4 + 1 + 8 + 8 + 8 + 1;
    final int[] uses = new int[RING_DAYS];
    int day;
    long users;
    int ticketsOpen;
    int failures;
    boolean isPaymentFailed;
    long newest;
    double health;
    double risk;
    boolean isAlerted;

    /** Fold an event; return the uses that it counted. */
    int fold(Event event) {
      Instant time = Instant.parse(event.time());
      int today = (int) Math.floorDiv(time.getEpochSecond(), 86_400L);
      advance(today);
      newest = Math.max(newest, time.toEpochMilli());
      switch (event.type()) {
        case "usage.event", "usage.page", "usage.session":
          int count = event.data().count() == null ? 1 : event.data().count();
          if (today > day - RING_DAYS) {
            uses[today % RING_DAYS] += count;
          }
          String user = event.data().userId();
          if (user != null) {
            users |= 1L << (Integer.parseInt(user.substring(user.length() - 2)) & 63);
          }
          return count;
        case "ticket.created":
          ticketsOpen++;
          return 0;
        case "ticket.status_changed":
          if (event.data().to().equals("solved")) {
            ticketsOpen = Math.max(0, ticketsOpen - 1);
          }
          return 0;
        case "charge.failed", "invoice.payment_failed":
          isPaymentFailed = true;
          failures++;
          return 0;
        case "charge.succeeded", "invoice.paid":
          isPaymentFailed = false;
          failures = 0;
          return 0;
        default:
          return 0;
      }
    }

    private void advance(int today) {
      for (int next = Math.max(day + 1, today - RING_DAYS + 1); next <= today; next++) {
        uses[next % RING_DAYS] = 0;
      }
      day = Math.max(day, today);
    }

    /** Score the account; say whether its risk has just crossed the line. */
    boolean score() {
      int uses7 = 0;
      int before7 = 0;
      int uses30 = 0;
      int active7 = 0;
      int active30 = 0;
      int idle = RING_DAYS;
      for (int back = 0; back < RING_DAYS; back++) {
        int count = uses[Math.floorMod(day - back, RING_DAYS)];
        if (count == 0) {
          continue;
        }
        idle = Math.min(idle, back);
        uses30 += count;
        active30++;
        if (back < 7) {
          uses7 += count;
          active7++;
        } else if (back < 14) {
          before7 += count;
        }
      }
      double pace = uses7 / (uses30 * 7.0 / 30.0 + 1.0);
      double trend = (uses7 - before7) / (uses7 + before7 + 1.0);
      int seen = Long.bitCount(users);
      double failed = isPaymentFailed ? 1.0 : 0.0;
      double points =
          45.0 + 0.05 * uses7 + 0.02 * uses30 + 6.0 * pace + 0.8 * active30 + 1.0 * active7 - 1.2 * idle
              + 5.0 * trend + 0.3 * seen - 4.0 * ticketsOpen - 15.0 * failed - 3.0 * failures
              + 2.0 * Math.log1p(uses30);
      double odds =
          0.6 - 0.003 * uses7 - 0.001 * uses30 - 0.5 * pace - 0.05 * active30 - 0.06 * active7 + 0.09 * idle
              - 0.4 * trend - 0.04 * seen + 0.45 * ticketsOpen + 1.3 * failed + 0.3 * failures
              - 0.1 * Math.log1p(uses30);
      health = Math.min(100.0, Math.max(0.0, points));
      risk = 1.0 / (1.0 + Math.exp(-odds));
      boolean was = isAlerted;
      isAlerted = risk >= ALERT_RISK;
      return isAlerted && !was;
    }

    byte[] toBytes() {
      ByteBuffer bytes = ByteBuffer.allocate(BYTES);
      for (int count : uses) {
        bytes.putInt(count);
      }
      bytes.putInt(day).putLong(users).putInt(ticketsOpen).putInt(failures);
      bytes.put((byte) (isPaymentFailed ? 1 : 0)).putLong(newest);
      bytes.putDouble(health).putDouble(risk).put((byte) (isAlerted ? 1 : 0));
      return bytes.array();
    }

    static Account of(byte[] stored) {
      ByteBuffer bytes = ByteBuffer.wrap(stored);
      Account account = new Account();
      for (int at = 0; at < RING_DAYS; at++) {
        account.uses[at] = bytes.getInt();
      }
      account.day = bytes.getInt();
      account.users = bytes.getLong();
      account.ticketsOpen = bytes.getInt();
      account.failures = bytes.getInt();
      account.isPaymentFailed = bytes.get() != 0;
      account.newest = bytes.getLong();
      account.health = bytes.getDouble();
      account.risk = bytes.getDouble();
      account.isAlerted = bytes.get() != 0;
      return account;
    }
  }

  /** An account in a fixed number of bytes. */
  static Serde<Account> accountSerde() {
    return Serdes.serdeFrom(
        (topic, account) -> account == null ? null : account.toBytes(),
        (topic, stored) -> stored == null ? null : Account.of(stored));
  }

  /** A value in JSON, as Jackson writes and reads it. */
  static <T> Serde<T> jsonSerde(Class<T> type) {
    ObjectReader reader = MAPPER.readerFor(type);
    ObjectWriter writer = MAPPER.writerFor(type);
    return Serdes.serdeFrom(
        (topic, value) -> {
          try {
            return writer.writeValueAsBytes(value);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        },
        (topic, bytes) -> {
          try {
            return reader.readValue(bytes);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        });
  }
}
