// Ends this JVM as soon as the process that started it is gone, however it went: its end of our standard input closes.
// The data folder named in -Dlogpipe.removeOnOrphan goes with it, because nobody is left who could remove it.
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;

final class Guard {
    private Guard() {}

    static void watchParent() {
        if (!Boolean.getBoolean("logpipe.guard")) return;
        Thread thread = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { /* the parent never writes; only the end of the stream matters */ }
            } catch (IOException closed) {
                // a broken pipe means the same
            }
            String folder = System.getProperty("logpipe.removeOnOrphan");
            // Twice: the server may have written a file while its folder was being removed.
            for (int round = 0; folder != null && round < 2; round++) remove(Path.of(folder));
            Runtime.getRuntime().halt(1);
        }, "logpipe-guard");
        thread.setDaemon(true);
        thread.start();
    }

    private static void remove(Path folder) {
        try (Stream<Path> paths = Files.walk(folder)) {
            paths.sorted(Comparator.reverseOrder()).forEach(path -> {
                try {
                    Files.deleteIfExists(path);
                } catch (IOException inUse) {
                    // the next round may succeed
                }
            });
        } catch (Exception gone) {
            // removed in the meantime
        }
    }
}
