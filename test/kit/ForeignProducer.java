// A producer of the Java client, driven by lines on standard input; each is answered by `ok` or `error <what>`:
//   producer <name> <property>=<value>...        a producer; with a transactional.id it is initialised too
//   send <name> <topic> <partition> <file>       sends the file's records and waits until all are acknowledged
//   begin <name> | commit <name> | abort <name>  a transaction
//   close <name>
// A file has one record per line: key, value, then `name=value` for each header, separated by tabs, in base64; `-` is null.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class ForeignProducer {
    private static final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                act(line.split(" "));
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println("error " + error.toString().replace('\n', ' '));
            }
        }
        // Whoever closed standard input wants nothing any more.
        Runtime.getRuntime().halt(0);
    }

    private static void act(String[] words) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producers.get(words[1]);
        switch (words[0]) {
            case "producer" -> producers.put(words[1], create(words));
            case "send" -> send(producer, words[2], Integer.parseInt(words[3]), Path.of(words[4]));
            case "begin" -> producer.beginTransaction();
            case "commit" -> producer.commitTransaction();
            case "abort" -> producer.abortTransaction();
            case "close" -> producers.remove(words[1]).close();
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static KafkaProducer<byte[], byte[]> create(String[] words) {
        Map<String, Object> properties = new HashMap<>();
        for (int i = 2; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
        if (properties.containsKey("transactional.id")) producer.initTransactions();
        return producer;
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, Path file)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (String line : Files.readAllLines(file)) {
            String[] parts = line.split("\t", -1);
            // A time of its own, which the topic is to replace.
            var record = new ProducerRecord<>(topic, partition, 1L, bytes(parts[0]), bytes(parts[1]));
            for (int i = 2; i < parts.length; i++) {
                String[] header = parts[i].split("=", 2);
                record.headers().add(new RecordHeader(header[0], bytes(header[1])));
            }
            sent.add(producer.send(record));
        }
        producer.flush();
        for (Future<RecordMetadata> one : sent) one.get();
    }

    private static byte[] bytes(String text) {
        return text.equals("-") ? null : Base64.getDecoder().decode(text);
    }
}
